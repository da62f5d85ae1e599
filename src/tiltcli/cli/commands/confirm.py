"""`tiltcli confirm`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tiltcli.cli.app import app, say
from tiltcli.cli.options import RESULTS, Results, Run


@app.command()
def confirm(
    run: Run,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Grid file to write; default: stdout."),
    ] = None,
    metric: Annotated[
        str, typer.Option("--metric", help="Column whose mean over the seeds chooses.")
    ] = "val_accuracy",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Number of fresh seeds.")] = 20,
    results: Results = RESULTS,
) -> None:
    """Write the grid that confirms a run: its best cells against static, on fresh seeds.

    Example: [bold]tiltcli confirm spiral-phase -o confirm.toml[/bold]

    Cells are chosen on validation data; what the new grid trains has never been looked at.
    """
    from tiltcli.evaluation.confirmation import confirmation_grid
    from tiltcli.store.parts import write_whole

    folder = output.parent if output else Path()
    text = confirmation_grid(run, results=results, metric=metric, seeds=seeds, folder=folder)
    if output is None:
        sys.stdout.write(text)
        return
    write_whole(output, lambda to: to.write_text(text, encoding="utf-8"))
    say(f"written: {output}; tiltcli sweep {output} runs it")
