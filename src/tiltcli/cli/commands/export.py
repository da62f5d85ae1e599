"""`tiltcli export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiltcli.cli.app import app, say
from tiltcli.cli.options import RESULTS, OneJob, Results, Run, Where


@app.command()
def export(
    run: Run,
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="FILE", help="File to write: .safetensors, .pt2 or .onnx."
        ),
    ],
    best: Annotated[
        str | None,
        typer.Option("--best", metavar="METRIC", help="The job that is best by it."),
    ] = None,
    job: OneJob = None,
    where: Where = None,
    results: Results = RESULTS,
) -> None:
    """Write a trained network to a file: weights, or all that it takes to predict.

    Example: [bold]tiltcli export mine --best val_accuracy -o mine.onnx[/bold]

    Inputs are as they were in your data: standardisation, one-hot columns and medians are inside
    .pt2 (torch.export.load) and .onnx; beside the weights in .safetensors, as JSON. Where the run
    kept no weights (train.keep), the job is trained again and checked against what it stored.
    """
    from tiltcli.execution.trained import export_trained

    found, note = export_trained(
        run, output, job=job, results=results, where=tuple(where or ()), best=best
    )
    if note:
        say(f"note: {note}")
    facts, row = found.facts, found.row
    scores = ", ".join(
        f"{name} {row[name]:.4f}"
        for name in ("train_accuracy", "val_accuracy", "test_accuracy")
        if row[name] == row[name]
    )
    origin = "kept by the run" if found.kept else "trained again"
    say(f"written: {output}: job {facts.job} at epoch {facts.epoch}, {origin}; its end: {scores}")
