"""`tiltcli compare`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tiltcli.cli import options as opt
from tiltcli.cli.options import app, option, say
from tiltcli.cli.rendering import Result, write
from tiltcli.errors import UserError

if TYPE_CHECKING:
    from tiltcli.evaluation.comparison import Comparison


@app.command()
def compare(
    run_a: str = opt.run_argument("A run.", "RUN_A"),
    run_b: str = opt.run_argument("Another; differences are B − A.", "RUN_B"),
    where: opt.Where = None,
    metric: list[str] | None = option(
        "--metric", "Column to compare; may be repeated. Default: accuracies."
    ),
    best: str | None = option("--best", "Keep per width the cell it rates highest.", "METRIC"),
    tune: str | None = option(
        "--tune",
        "Each side is represented, per row, by the cell of its own this rates highest.",
        "METRIC",
    ),
    methods: opt.Methods = None,
    by: opt.By = None,
    threshold: float = option(
        "--threshold", "Training accuracy that fits.", min=0.0, max=1.0, default=0.99
    ),
    output_format: opt.OutputFormat = opt.Format.TABLE,
    plot: Path | None = option("--plot", "Draw the differences to this file too."),
    results: opt.Results = opt.RESULTS,
) -> None:
    """Compare two runs pair by pair: what differs, by how much, and how sure that is.

    Example: [bold]tiltcli compare phase@loss.kind=static phase@loss.kind=dynamical[/bold]

    A RUN is a name under results/ or a path, with an optional selection after @. Jobs are paired on
    all settings they share, so also on the seed. Intervals are 95%; p is that of a paired
    permutation test (exact up to 20 pairs), corrected (Holm) over the rows, with that of the row
    alone beside it. A difference is decided where the interval leaves out zero, the corrected p is
    below 0.05 and there are five pairs or more; where p cannot fall so low, the row says how many
    pairs it takes. With --tune each side's other settings (learning rate, optimiser, A, T, …) are
    tuned, and the tilted side is also held against the static loss at its own settings. A diverged
    job counts with the accuracy it had, or with chance if that is lower.
    """
    from tiltcli.api.finished_runs import compare as compare_runs
    from tiltcli.evaluation.comparison import METRICS
    from tiltcli.evaluation.texts import legend
    from tiltcli.grid.settings import METHODS

    if (methods or by) and not tune:
        raise UserError("--methods and --by are for --tune")
    if plot is not None:
        from tiltcli.plots.style import check_path

        check_path(plot)
    found = compare_runs(
        run_a,
        run_b,
        results=results,
        where=where or (),
        metrics=metric or METRICS,
        threshold=threshold,
        best=best,
        tune=tune,
        methods=opt.names(methods) or METHODS,
        by=opt.names(by),
    )
    write(result_of(found), output_format)
    if output_format is opt.Format.TABLE:
        _show_learning(found, (run_a, run_b), results)
    if output_format in (opt.Format.TABLE, opt.Format.CSV):  # the others hold them
        opt.report((*found.notes, legend(found)))
    if plot is not None:
        from tiltcli.plots.forest import forest
        from tiltcli.plots.style import save

        save(forest(found), plot)
        say(f"written: {plot}")


def result_of(comparison: Comparison) -> Result:
    """Return a comparison as the renderer takes it."""
    from tiltcli.evaluation.texts import metric_tables

    records = comparison.rows.to_dict("records")
    facts = {"a": comparison.name_a, "b": comparison.name_b}
    facts |= {key: getattr(comparison, key) for key in ("threshold", "groups", "cells")}
    return Result(
        "compare",
        {**facts, "rows": records, "notes": comparison.notes},
        list(comparison.rows.columns),
        records,
        [f"  a: {comparison.name_a}", f"  b: {comparison.name_b}"],
        metric_tables(comparison),
        metric_tables(comparison, compact=True),
        comparison.notes,
    )


def _show_learning(comparison: Comparison, runs: tuple[str, str], results: Path) -> None:
    """Training accuracy by epoch of both sides, a line per group: its first cell, the best.

    Averaged over the pairs that the row compares, but for those of which a job diverged: where its
    curve ends, a mean would jump.
    """
    import pandas as pd

    from tiltcli.cli.standings import key, mean_curve, spark
    from tiltcli.cli.streams import output
    from tiltcli.evaluation.facets import named
    from tiltcli.store.read import find_run, read

    folders = dict.fromkeys(find_run(run.partition("@")[0], results) for run in runs)
    tables = [read(folder, metrics=["train_accuracy"]) for folder in folders]
    jobs = pd.concat([one.jobs[["job", "outcome"]] for one in tables])
    done = set(jobs.loc[jobs["outcome"] == "completed", "job"])
    pairs = comparison.pairs
    pairs = pairs[pairs["job_a"].isin(done) & pairs["job_b"].isin(done)]
    rows = comparison.rows.iloc[:: len(comparison.metrics)].reset_index(drop=True)
    groups = list(comparison.groups)
    rows = rows.drop_duplicates(groups) if groups else rows.head(1)
    pairs = pairs[pairs["row"].isin(rows.index)]
    wanted = {*pairs["job_a"], *pairs["job_b"]}
    metrics = pd.concat([one.metrics[one.metrics["job"].isin(wanted)] for one in tables])
    labels = [named({key: row[key] for key in comparison.keys}) for _, row in rows.iterrows()]
    indent = max(map(len, labels)) + 2
    length = max(8, min(40, (output().width - indent - 6) // 2))
    curves = [
        mean_curve(metrics, set(pairs.loc[pairs["row"] == row, side]), "train_accuracy", length)
        for row in rows.index
        for side in ("job_a", "job_b")
    ]
    known = [value for curve in curves for value in curve if value == value]
    if not known:
        return
    low, high = min(known), max(known)
    last = int(metrics["epoch"].max())
    lines = [f"training accuracy, mean over the pairs ({key(low, high, last)})"]
    lines.append(" " * indent + f"{'a':<{length + 2}}b")
    for number, label in enumerate(labels):
        a, b = (spark(curve, low, high) for curve in curves[2 * number : 2 * number + 2])
        lines.append(f"{label:<{indent}}{a}  {b}".rstrip())
    sys.stdout.write("\n" + "\n".join(lines) + "\n")
