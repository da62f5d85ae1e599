"""Learning curves of a run as lines of text: static and the best tilted cell of each group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tiltcli.cli.sparks import key, spark, stretched
from tiltcli.cli.standings import aligned
from tiltcli.errors import Outcome, harmless

if TYPE_CHECKING:
    from tiltcli.store.read import Tables

SHORTEST, LONGEST = 8, 40
"""Characters of a curve."""


def learning(tables: Tables, width: int) -> list[str]:
    """Return lines of a table that fits a terminal; none where nothing was logged.

    Args:
        tables: of a run.
        width: of the terminal, characters. Where it is short, curves go first, then training.

    """
    from tiltcli.evaluation.cells import choosing_metric, gather
    from tiltcli.evaluation.facets import cell_name, groups, mean_text
    from tiltcli.evaluation.learning_curves import learning_curves
    from tiltcli.evaluation.naming import short, value_text

    jobs = tables.jobs
    if jobs["outcome"].eq(Outcome.FAILED).all():
        return []
    metrics = [one for one in ("train_accuracy", "val_accuracy") if jobs[one].notna().any()]
    cells = gather(jobs, metrics)
    found = groups(cells, choosing_metric(jobs))
    shown = [number for group in found for number in group.shown]
    curves = [learning_curves(cells, jobs, tables.metrics, name, shown) for name in metrics]
    known = [mean for by_cell in curves for curve in by_cell.values() for mean in curve.mean]
    if not known:
        return []
    last = max(curve.epochs[-1] for by_cell in curves for curve in by_cell.values())
    low, high = min(known), max(known)
    keys = list(found[0].settings)
    left = [[*map(short, keys), "loss"]]
    for group in found:
        for place, number in enumerate(group.shown):
            names = [harmless(value_text(one, value)) for one, value in group.settings.items()]
            left.append([*([""] * len(keys) if place else names), cell_name(cells, number)])
    ends = [["", *(mean_text(cells, number, name) for number in shown)] for name in metrics]
    fixed = sum(max(map(len, column)) + 2 for column in zip(*left, strict=True))
    room, kept = _room(width - fixed, ends)
    lines = [list(row) for row in left]
    for name, by_cell, texts in list(zip(metrics, curves, ends, strict=True))[kept:]:
        drawn = [
            spark(stretched(by_cell[number], room, last), low, high)
            if number in by_cell
            else " " * room
            for number in shown
        ]
        headed = [name.partition("_")[0], *(f"{a} {b}".strip() for a, b in _pairs(drawn, texts))]
        for line, text in zip(lines, headed, strict=True):
            line.append(text)
    draws = "data.seed" in jobs and jobs["data.seed"].nunique() > 1
    said = f"in brackets the number of {'replicates' if draws else 'seeds'}"
    said = f"{key(low, high, int(last))}; {said}" if room else said
    title = "accuracy of static and the best cell: "
    title += "mean by epoch; at the end ± 95% interval" if room else "mean ± 95% interval"
    return [title, f"({said})", *aligned(lines, len(keys))]


def _pairs(drawn: Sequence[str], texts: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(drawn, texts[1:], strict=True))


def _room(width: int, ends: list[list[str]]) -> tuple[int, int]:
    """Characters of a curve, and how many metrics are left out for want of room."""
    needed = [max(map(len, texts)) + 3 for texts in ends]
    for skipped in range(len(ends)):
        own = needed[skipped:]
        room = (width - sum(own)) // len(own)
        if room >= SHORTEST:
            return min(room, LONGEST), skipped
        if width >= sum(own) - 3 or skipped == len(ends) - 1:
            return 0, skipped
    return 0, 0
