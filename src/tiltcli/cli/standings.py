"""How a run stands, as lines: static and the best tilted cells, and their learning curves."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tiltcli.errors import Outcome, harmless

if TYPE_CHECKING:
    import pandas as pd

    from tiltcli.execution.progress import Gathered
    from tiltcli.store.read import Tables

_NAMES = {"val_accuracy": "validation accuracy", "train_accuracy": "training accuracy"}

SHORTEST, LONGEST = 8, 40
"""Characters of a curve."""

BLOCKS = "▁▂▃▄▅▆▇█"


def standings(found: Gathered, most: int = 1000, *, ripe: bool = False) -> list[str]:
    """Return static against the best tilted cell, a line for each group; none for one mean alone.

    `ripe`, while the sweep runs, is as in `tiltcli.evaluation.facets.groups`.
    """
    from tiltcli.evaluation.facets import cell_name, groups, short, value_text
    from tiltcli.evaluation.texts import mean_text

    cells, metric, over = found
    lines = groups(cells, metric, ripe=ripe)
    if len(lines) < 2 and not any(len(one.shown) == 2 for one in lines):
        return []
    keys = list(lines[0].settings)
    counts = sorted({one.tilted for one in lines if one.tilted})
    columns = [[short(key), *(value_text(key, one.settings[key]) for one in lines)] for key in keys]
    if any(one.static is not None for one in lines):
        columns.append(["static", *(mean_text(cells, one.static, metric) for one in lines)])
    if counts:
        among = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
        which = f"best of {among} cells" if counts[-1] > 1 else "dynamical"
        columns.append([which, *(mean_text(cells, one.best, metric) for one in lines)])
        names = ("–" if one.best is None else cell_name(cells, one.best) for one in lines)
        columns.append(["cell", *names])
    title = f"{_NAMES[metric]}: mean ± 95% interval ({over})"
    text = [title, *aligned([column[: most + 1] for column in columns], len(keys))]
    if len(lines) > most:
        text.append(f"     …  and {len(lines) - most} more")
    return text


def aligned(columns: Iterable[Sequence[str]], right: int) -> list[str]:
    """Columns of texts as lines, the first few aligned at their right edge."""
    padded = []
    for place, column in enumerate(columns):
        texts = [harmless(text) for text in column]
        width = max(map(len, texts))
        padded.append([t.rjust(width) if place < right else t.ljust(width) for t in texts])
    return ["  ".join(row).rstrip() for row in zip(*padded, strict=True)]


def spark(values: Sequence[float], low: float, high: float) -> str:
    """Return a character per value, by its place between `low` and `high`; a space for none."""
    span = high - low if high > low else 1.0
    places = ((value - low) / span for value in values)
    return "".join(
        BLOCKS[max(0, min(int(place * 8), 7))] if math.isfinite(place) else " " for place in places
    )


def mean_curve(
    metrics: pd.DataFrame, jobs: Collection[str], metric: str, length: int
) -> list[float]:
    """Return a metric's mean over some jobs as `_stretched`; NaN if nothing is logged at all."""
    rows = metrics.loc[metrics["job"].isin(jobs), ["epoch", metric]].dropna()
    if rows.empty:
        return [float("nan")] * length
    return _stretched(rows["epoch"], rows[metric], length, rows["epoch"].max())


def _stretched(epochs: Any, values: Any, length: int, last: int) -> list[float]:
    """Return the mean in `length` equal stretches of the epochs from 0 to `last`.

    Stretches without a logged epoch repeat the one before.
    """
    import numpy as np
    import pandas as pd

    place = np.minimum(np.asarray(epochs) * length // (last + 1), length - 1)
    means = pd.Series(np.asarray(values, dtype=float)).groupby(place).mean().reindex(range(length))
    return [float(v) for v in means.ffill()]


def key(low: float, high: float, last: int) -> str:
    """What the characters stand for."""
    return f"epochs 0 to {last}; {BLOCKS[0]} is {low:.2f}, {BLOCKS[-1]} is {high:.2f}"


def learning(tables: Tables, width: int) -> list[str]:
    """Return lines of a table of a run that fits a terminal; none where nothing was logged.

    Where the terminal's width, in characters, is short, curves go first, then training.
    """
    from tiltcli.evaluation.cells import choosing_metric, gather, learning_curves
    from tiltcli.evaluation.facets import cell_name, groups, short, value_text
    from tiltcli.evaluation.texts import mean_text

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
    columns = [[short(one)] for one in keys]
    for group in found:
        for column, (one, value) in zip(columns, group.settings.items(), strict=True):
            column += [harmless(value_text(one, value)), ""][: len(group.shown)]
    columns.append(["loss", *(cell_name(cells, number) for number in shown)])
    ends = [["", *(mean_text(cells, number, name) for number in shown)] for name in metrics]
    fixed = sum(max(map(len, column)) + 2 for column in columns)
    room, kept = _room(width - fixed, ends)
    for name, by_cell, texts in list(zip(metrics, curves, ends, strict=True))[kept:]:
        drawn = [
            spark(_stretched(curve.epochs, curve.mean, room, last), low, high)
            if (curve := by_cell.get(number)) is not None
            else " " * room
            for number in shown
        ]
        pairs = zip(drawn, texts[1:], strict=True)
        columns.append([name.partition("_")[0], *(f"{a} {b}".strip() for a, b in pairs)])
    draws = "data.seed" in jobs and jobs["data.seed"].nunique() > 1
    said = f"in brackets the number of {'replicates' if draws else 'seeds'}"
    said = f"{key(low, high, int(last))}; {said}" if room else said
    title = "accuracy of static and the best cell: "
    title += "mean by epoch; at the end ± 95% interval" if room else "mean ± 95% interval"
    return [title, f"({said})", *aligned(columns, len(keys))]


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
