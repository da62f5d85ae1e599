"""`tiltcli report`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tiltcli.cli.app import app
from tiltcli.cli.sweep import Results


@app.command()
def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN…", show_default=False, help="Runs.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Report to write; default: REPORT.md under results."),
    ] = None,
    results: Results = Path("results"),
) -> None:
    """Write a report of runs (Markdown): verdicts on the claims, tables, figures.

    Example: [bold]tiltcli report spiral-phase spiral-confirm -o REPORT.md[/bold]
    """
    from tiltcli.report import write_report

    output = output or results / "REPORT.md"
    write_report(runs, output, results)
    sys.stdout.write(f"{output}\n")
