"""`tiltcli report`."""

from __future__ import annotations

import sys
from pathlib import Path

from tiltcli.cli.options import RESULTS, Results, Runs, app, option


@app.command()
def report(
    runs: Runs,
    output: Path | None = option(
        "-o --output", "File to write, .html or .md; default: report.html under results."
    ),
    results: Results = RESULTS,
) -> None:
    """Write a report of runs: verdicts on the claims, figures to explore, tables, provenance.

    Example: [bold]tiltcli report spiral-phase spiral-confirm -o report.html[/bold]

    The page needs no network: send it to anybody. With -o REPORT.md the report is Markdown.
    """
    from tiltcli.api.finished_runs import report as written

    sys.stdout.write(f"{written(*runs, output=output, results=results)}\n")
