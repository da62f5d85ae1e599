"""`tiltcli compare`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiltcli.cli.app import app, say
from tiltcli.cli.completion import run_names
from tiltcli.cli.options import RESULTS, Format, OutputFormat, Results, Where
from tiltcli.cli.rendering import Result, write

if TYPE_CHECKING:
    from tiltcli.evaluation.comparison import Comparison

_SHORT = {"loss.amplitude": "A", "loss.period": "T"}


@app.command()
def compare(
    run_a: Annotated[
        str,
        typer.Argument(
            metavar="RUN_A", show_default=False, help="A run.", autocompletion=run_names
        ),
    ],
    run_b: Annotated[
        str,
        typer.Argument(
            metavar="RUN_B",
            show_default=False,
            help="Another; differences are B − A.",
            autocompletion=run_names,
        ),
    ],
    where: Where = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", help="Column to compare; may be repeated. Default: accuracies."),
    ] = None,
    best: Annotated[
        str | None,
        typer.Option("--best", metavar="METRIC", help="Keep per width the cell it rates highest."),
    ] = None,
    threshold: Annotated[
        float, typer.Option("--threshold", min=0.0, max=1.0, help="Training accuracy that fits.")
    ] = 0.99,
    output_format: OutputFormat = Format.TABLE,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw the differences to this file too.")
    ] = None,
    results: Results = RESULTS,
) -> None:
    """Compare two runs pair by pair: what differs, by how much, and how sure that is.

    Example: [bold]tiltcli compare phase@loss.kind=static phase@loss.kind=dynamical[/bold]

    A RUN is a name under results/ or a path, with an optional selection after @. Jobs are paired on
    all settings they share, so also on the seed. Intervals are 95%; p-values are exact paired
    permutation tests, corrected (Holm) over the rows.
    """
    from tiltcli.api import compare as compare_runs
    from tiltcli.evaluation.comparison import METRICS
    from tiltcli.plots.style import check_path

    if plot is not None:
        check_path(plot)
    found = compare_runs(
        run_a,
        run_b,
        results=results,
        where=where or (),
        metrics=metric or METRICS,
        threshold=threshold,
        best=best,
    )
    write(result_of(found), output_format)
    if output_format is Format.TABLE:
        _show_learning(found, (run_a, run_b), where or [], results)
        for note in found.notes:
            say(f"note: {note}")
    if plot is not None:
        from tiltcli.plots.forest import forest
        from tiltcli.plots.style import save

        save(forest(found), plot)
        say(f"written: {plot}")


def result_of(comparison: Comparison) -> Result:
    """Return a comparison as the renderer takes it."""
    from tiltcli.evaluation.texts import metric_tables

    records = [
        {str(key): one for key, one in row.items()} for row in comparison.rows.to_dict("records")
    ]
    return Result(
        "compare",
        {
            "a": comparison.name_a,
            "b": comparison.name_b,
            "threshold": comparison.threshold,
            "groups": comparison.groups,
            "cells": comparison.cells,
            "rows": records,
            "notes": comparison.notes,
        },
        list(comparison.rows.columns),
        records,
        [f"  a: {comparison.name_a}", f"  b: {comparison.name_b}"],
        metric_tables(comparison),
        metric_tables(comparison, compact=True),
        comparison.notes,
    )


def _show_learning(
    comparison: Comparison, runs: tuple[str, str], where: list[str], results: Path
) -> None:
    """Training accuracy by epoch of both sides, a line per group: its first cell, the best."""
    from tiltcli.cli.narrowing import narrowed
    from tiltcli.cli.sparks import key, mean_curve, spark
    from tiltcli.evaluation.texts import plain
    from tiltcli.store.read import find_run, read

    sides = []
    for run in runs:
        name, _, selection = run.partition("@")
        sides.append(narrowed(read(find_run(name, results)), [selection, *where], None))
    rows = comparison.rows.drop_duplicates(list(comparison.groups))
    labels = [
        ", ".join(
            f"{_SHORT.get(name, name.rpartition('.')[2])} {plain(row[name])}"
            for name in (*comparison.groups, *comparison.cells)
        )
        for _, row in rows.iterrows()
    ]
    indent = max(map(len, labels)) + 2
    length = max(8, min(40, (_console_width() - indent - 6) // 2))
    curves = []
    for _, row in rows.iterrows():
        for side, tables in zip("ab", sides, strict=True):
            jobs = tables.jobs
            for name in (*comparison.groups, *comparison.cells):
                column = name.removeprefix(f"{side}:")
                if column in jobs and jobs[column].notna().any() and row.notna()[name]:
                    jobs = jobs[jobs[column] == row[name]]
            curves.append(mean_curve(tables.metrics, set(jobs["job"]), "train_accuracy", length))
    known = [value for curve in curves for value in curve if value == value]
    if not known:
        return
    low, high = min(known), max(known)
    last = max(int(tables.metrics["epoch"].max()) for tables in sides)
    lines = [f"training accuracy, mean over the seeds ({key(low, high, last)})"]
    lines.append(" " * indent + f"{'a':<{length + 2}}b")
    for number, label in enumerate(labels):
        a, b = (spark(curve, low, high) for curve in curves[2 * number : 2 * number + 2])
        lines.append(f"{label:<{indent}}{a}  {b}".rstrip())
    sys.stdout.write("\n" + "\n".join(lines) + "\n")


def _console_width() -> int:
    from tiltcli.cli.console import output

    return output().width
