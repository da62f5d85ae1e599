"""Methods beside each other, each tuned: the matrix, and whether it is the tilting."""

from __future__ import annotations

from collections.abc import Sequence

from tiltcli.errors import UserError
from tiltcli.evaluation.cells import choosing_metric
from tiltcli.evaluation.facets import named, tail, value_text
from tiltcli.evaluation.texts import Table, interval, number, p_value
from tiltcli.evaluation.tuning import Candidate, Contest, Question, Tuning, contests, judged, tune
from tiltcli.grid import load_run
from tiltcli.reports.loaded_runs import Run
from tiltcli.reports.template import render

METRICS = ("test_accuracy", "train_accuracy")
_SAID = {1: "yes", -1: "no, worse", 0: "not shown"}

NOTE = (
    "Each method is represented, in each column, by the one of its cells that validation likes "
    "best, and judged on the replicates of this run. ▲: better than the best tuned static loss and "
    "than the static loss at its own other settings; △: likewise, but than the static loss tuned "
    "with the same optimiser, not the best; ▼: worse than the best tuned static loss. "
    "All need a 95% interval that leaves out zero and p < 0.05 after Holm's correction over the "
    "contests of one question."
)


def methods_of(run: Run) -> tuple[list[str], list[Table]]:
    """Return sentences and tables on a run whose grid says its methods; empty for another."""
    try:
        names = load_run(run.folder).methods
    except UserError:
        return [], []  # files that the grid names have moved: the rest of the report stands
    metrics = [name for name in METRICS if name in run.metrics]
    if not names or not metrics:
        return [], []
    jobs = run.tables.jobs
    tuning = tune(jobs, choosing_metric(jobs), methods=names, metrics=metrics)
    seen = {metric: contests(tuning, jobs, metric) for metric in metrics}
    tables = [
        table
        for metric, found in seen.items()
        for table in (_matrix(tuning, found, metric), *_contests(found, metric))
    ]
    return [*in_words(tuning, seen[metrics[0]], metrics[0]), NOTE], tables


def _matrix(tuning: Tuning, found: Sequence[Contest], metric: str) -> Table:
    """Methods × rows: mean ± half of the interval, n, and how it stands against static."""
    columns = [
        {one.name: _standing(tuning, one, found, metric) for one in together}
        for _, together in tuning.rows
    ]
    names = dict.fromkeys(name for column in columns for name in column)
    lines = tuple((name, *(column.get(name, "–") for column in columns)) for name in names)
    header = ("method", *(named(row) or "all" for row, _ in tuning.rows))
    title = f"{metric.replace('_', ' ')} of the chosen cells: mean ± 95% interval (replicates)"
    return Table(title, header, lines, ("method",))


def _standing(tuning: Tuning, one: Candidate, found: Sequence[Contest], metric: str) -> str:
    """Mean of the chosen cell, and its mark: see `NOTE`."""
    estimate = tuning.cells.estimate(one.chosen, metric)
    half = number(estimate.high - estimate.mean)
    many = tuning.cells.rows["lost"].astype(int).to_dict()[one.chosen]
    lost = f", {many} lost" if many else ""
    own = {c.question: c.decided for c in found if c.method == one.name and c.row == one.row}
    best, mark = own.get(Question.BEST_STATIC, 0), ""
    if best < 0:
        mark = " ▼"
    elif own.get(Question.PARTNER, 0) > 0:
        mark = " ▲" if best > 0 else " △" if own.get(Question.TUNED, 0) > 0 else ""
    return f"{number(estimate.mean)} ± {half} ({estimate.n}{lost}){mark}"


def in_words(tuning: Tuning, found: Sequence[Contest], metric: str) -> list[str]:
    """Return a paragraph for each row: whether tilting helps, and whether it is the tilting."""
    rows = []
    for row, together in tuning.rows:
        own = [one for one in found if one.row == row]
        against, tuned, controls = (
            [one for one in own if one.question is question]
            for question in (Question.BEST_STATIC, Question.TUNED, Question.CLASS)
        )
        if not against:
            continue
        better = [one for one in own if one.decided > 0]
        real = {one.method for one in better if one.question is Question.PARTNER}
        helps = [one for one in against if one.decided > 0 and one.method in real]
        best = max(together, key=lambda one: judged(tuning, one))
        rows.append(
            {
                "where": ", ".join(f"{tail(key)} {value}" for key, value in row.items()) or "here",
                "top": max(helps or against, key=lambda one: one.difference.mean),
                "helps": helps,
                "lowers": all(one.decided < 0 for one in against),
                "tuned": tuned,
                "won": [one for one in tuned if one.decided > 0 and one.method in real],
                "controls": controls,
                "beaten": [one for one in controls if one.decided > 0],
                "ahead": [one for one in controls if one.decided < 0],
                "best": best if metric.startswith("test") else None,
                "mean": tuning.cells.estimate(best.chosen, metric).mean,
            }
        )
    return render("methods.txt", rows=rows, said=metric.replace("_", " ")).splitlines()


def _contests(found: Sequence[Contest], metric: str) -> list[Table]:
    """A table per question."""
    tables = []
    for question in Question:
        own = [one for one in found if one.question is question]
        if not own:
            continue
        where = tuple(map(tail, own[0].row))
        numbers = ("difference", "95% interval", "n", "lost", "p", "p (Holm)", "shown", "n for 80%")
        lines = tuple(
            (
                *(value_text(key, value) for key, value in one.row.items()),
                one.method,
                one.other,
                number(one.difference.mean, sign=True),
                interval(one.difference.low, one.difference.high),
                str(one.difference.n),
                f"{one.lost[0]}, {one.lost[1]}",
                p_value(one.p),
                p_value(one.p_corrected),
                _SAID[one.decided],
                "–" if one.needed != one.needed else f"{one.needed:.0f}",
            )
            for one in own
        )
        title = f"{metric.replace('_', ' ')}: {question}"
        header = (*where, "method", "against", *numbers)
        tables.append(Table(title, header, lines, ("method", "against", "shown")))
    return tables
