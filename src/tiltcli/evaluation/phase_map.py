"""The numbers of maps of cells over two settings, such as a phase diagram of amplitude × period."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tiltcli.errors import Fault, UserError, with_suggestion
from tiltcli.evaluation.cells import (
    ALWAYS,
    REPLICATES,
    Cells,
    best,
    gather,
    metric_fault,
    results_of,
    split,
)
from tiltcli.evaluation.facets import check_panels, named, telling
from tiltcli.statistics import Estimate

PERIOD, AMPLITUDE = "loss.period", "loss.amplitude"
STATIC = "static"


@dataclass(frozen=True)
class Map:
    """One panel: cells that differ by nothing but two settings. Arrays have shape (ys, xs)."""

    settings: Mapping[str, Any]  # what tells it from the other panels of its run
    # values of its columns, rising; where one axis is of the tilt alone and the other is not, the
    # static cells have a row (or column) of their own, the first: "static"
    xs: tuple[Any, ...]
    ys: tuple[Any, ...]  # values of its rows, likewise
    means: npt.NDArray[np.float64]  # mean of the metric, NaN where no job of the cell has a value
    # half-width of the mean's 95% interval, NaN with fewer than two replicates
    halves: npt.NDArray[np.float64]
    counted: npt.NDArray[np.int64]  # replicates in the mean
    jobs: npt.NDArray[np.int64]  # jobs of each cell, ended in whatever way
    lost: npt.NDArray[np.int64]  # of them, diverged or failed
    # 1 or −1 where the 95% interval of the mean paired difference from the static partner lies
    # above or below zero, else 0
    against: npt.NDArray[np.int64]
    # of the one static partner of all cells; n = 0 where there is none or are several
    static: Estimate
    # row and column of the best tilted cell; None where none has a value
    best: tuple[int, int] | None
    best_estimate: Estimate  # of that cell; n = 0 without one

    @property
    def name(self) -> str:
        """Its settings, as a title."""
        return named(self.settings)


def phase_maps(
    jobs: pd.DataFrame, metric: str, x: str = PERIOD, y: str = AMPLITUDE, kind: str = "phase"
) -> list[Map]:
    """Return maps over two settings, one for each combination of the others."""
    _check(jobs, metric, x, y)
    cells = gather(jobs, [metric])
    rows, tilt = cells.rows, {*cells.inside, PERIOD, AMPLITUDE}
    if {x, y} & tilt and rows["static"].all():
        raise UserError(f"{kind} needs dynamical jobs, for {x} and {y}; this run has none")
    outside = [key for key in cells.outside if key not in (x, y)]
    inside = [key for key in cells.inside if key not in (x, y)]
    shown = list(telling(rows[~rows["static"]] if len(tilt & {x, y}) else rows, outside))
    if not shown and not inside and "model.width" not in (x, y):
        shown = ["model.width"]
    apart = len(tilt & {x, y})
    panels = [
        ({**settings, **more}, own, static)
        for settings, group in split(rows, outside, shown, sort=True)
        for more, own, static in _panels(group, inside, apart)
    ]
    check_panels(kind, rows, [*shown, *inside], len(panels))
    with_static = apart == 1 and any(len(static) for *_, static in panels)
    xs = _values(rows[x], x in tilt and with_static)
    ys = _values(rows[y], y in tilt and with_static)
    return [_map(cells, metric, (x, y), (xs, ys), *panel, apart) for panel in panels]


def _check(jobs: pd.DataFrame, metric: str, x: str, y: str) -> None:
    faults = list(filter(None, [metric_fault(metric, jobs, results_of(jobs))]))
    settings = [str(name) for name in jobs.columns if "." in str(name)]
    apart = {*settings}.difference(REPLICATES, ["loss.kind"])
    able = [
        k for k in settings if k in ALWAYS or (k in apart and jobs[k].nunique(dropna=False) > 1)
    ]
    for option, key in (("--x", x), ("--y", y)):
        if key not in able:
            why = "does not vary here" if key in settings else "is no setting"
            why = "only repeats the experiment" if key in REPLICATES else why
            faults.append(Fault(with_suggestion(f"{key} {why}", key, able), source=option))
    if x == y:
        faults.append(Fault(f"{y} is --x as well", source="--y"))
    if faults:
        raise UserError(*faults)


def _panels(
    group: pd.DataFrame, inside: Sequence[str], apart: int
) -> list[tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]]:
    """Tilted cells by what else varies of the tilt, each with the static cells beside them."""
    static, tilted = group[group["static"]], group[~group["static"]]
    shown = telling(tilted, inside)
    panels = [
        (more, own, static) for more, own in split(tilted, inside, shown, sort=True) if len(own)
    ]
    if apart:
        return panels
    # Neither axis is of the tilt: static has a map of its own.
    panels = [({"loss.kind": "dynamical", **more}, own, static[:0]) for more, own, _ in panels]
    return [({"loss.kind": STATIC}, static, static[:0])] * bool(len(static)) + panels


def _values(column: pd.Series[Any], with_static: bool) -> tuple[Any, ...]:
    values = sorted(column.dropna().unique().tolist())
    if column.isna().any() and not with_static and column.name not in (PERIOD, AMPLITUDE):
        values.append(None)
    return (STATIC, *values) if with_static else tuple(values)


def _map(
    cells: Cells,
    metric: str,
    axes: tuple[str, str],
    values: tuple[tuple[Any, ...], tuple[Any, ...]],
    settings: dict[str, Any],
    own: pd.DataFrame,
    static: pd.DataFrame,
    apart: int,
) -> Map:
    (x, y), (xs, ys) = axes, values
    drawn = pd.concat([own, static]) if apart == 1 else own
    places = {number: (_place(row, y, ys), _place(row, x, xs)) for number, row in drawn.iterrows()}

    def filled(column: pd.Series[Any], empty: float = 0) -> npt.NDArray[Any]:
        table = np.full((len(ys), len(xs)), empty)
        for at, value in zip(places.values(), column, strict=True):
            table[at] = value
        return table

    mean, high, n, low, top = (
        drawn[f"{metric}:{name}"] for name in ("mean", "high", "n", "change_low", "change_high")
    )
    # An interval of width zero decides nothing.
    against = ((low > 0).astype(int) - (top < 0)).where(top - low > 1e-9, 0)
    found = best(own[~own["static"]], metric)
    level = cells.estimate(static.index[0] if apart == 2 and len(static) else None, metric)
    return Map(
        settings,
        xs,
        ys,
        filled(mean, np.nan),
        filled(high - mean, np.nan),
        filled(n),
        filled(drawn["jobs"]),
        filled(drawn["lost"]),
        filled(against),
        level,
        None if found is None else places[found],
        cells.estimate(found, metric),
    )


def _place(row: pd.Series[Any], key: str, values: tuple[Any, ...]) -> int:
    if row["static"] and values[0] == STATIC:
        return 0
    value = row[key]
    return values.index(None if pd.isna(value) else value)
