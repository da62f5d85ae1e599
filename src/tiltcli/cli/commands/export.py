"""`tiltcli export`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from tiltcli.cli.options import RESULTS, OneJob, Results, Run, Where, app, choice, option, say
from tiltcli.errors import UserError

Tracker = StrEnum(
    "Tracker", {"TENSORBOARD": "tensorboard", "MLFLOW": "mlflow", "WANDB": "wandb-offline"}
)
"""What metrics are exported to."""


@app.command()
def export(
    run: Run,
    output: Path | None = option(
        "-o --output", "File to write: .safetensors, .pt2 or .onnx; with --to, a folder.", "FILE"
    ),
    to: Tracker | None = choice(
        Tracker, "--to", "Write all jobs' metrics for this tracker instead.", None
    ),
    best: str | None = option("--best", "The job that is best by it.", "METRIC"),
    job: OneJob = None,
    where: Where = None,
    results: Results = RESULTS,
) -> None:
    """Write a trained network to a file, or a run's metrics to where other tools look.

    Example: [bold]tiltcli export mine --best val_accuracy -o mine.onnx[/bold]

    Inputs are as they were in your data: standardisation, one-hot columns and medians are inside
    .pt2 (torch.export.load) and .onnx; beside the weights in .safetensors, as JSON. Where the run
    kept no weights (train.keep), the job is trained again and checked against what it stored.

    With --to every job becomes a run of TensorBoard (./runs), MLflow (./mlflow.db) or Weights &
    Biases (./wandb, offline), with its settings, its metrics by step and its final numbers. What is
    there already is not written twice. Each takes an extra: pip install 'tiltcli[mlflow]'.
    """
    if to is not None:
        if best is not None:
            raise UserError("--best chooses a network; with --to, --where and --job choose jobs")
        from tiltcli.api.exporting import export_metrics

        written, there, shows = export_metrics(
            run, to, output=output, results=results, where=where or (), job=job
        )
        before = f"; {there} were there already" if there else ""
        say(f"written: {written} jobs{before}; {shows}")
        return
    if output is None:
        raise UserError("give -o FILE for a network, or --to for metrics")
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
