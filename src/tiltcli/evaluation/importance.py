"""How much of what a metric varies over a grid goes with each of its axes, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from tiltcli.evaluation.cells import Cells, gather, replicate_values
from tiltcli.evaluation.facets import short

DRAWS = 400
"""Bootstrap samples of the replicates."""

DEFINITION = (
    "Importance: of the variance of the cells' means, the share that goes with the axis alone (its "
    "main effect, η²: the sum of squares between the axis's values over the whole), among the "
    "cells that have the axis; what is left are other axes, interactions and noise. In brackets "
    "its 95% interval, from a bootstrap of each cell's replicates."
)

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Importance:
    """What goes with one axis."""

    setting: str  # the axis
    share: float  # η², from 0 to 1; NaN where nothing varies
    low: float  # lower end of its 95% interval; NaN without replicates
    high: float  # upper end


def importances(jobs: pd.DataFrame, metric: str) -> tuple[Cells, list[Importance]]:
    """Return the cells of a run, and what goes with each axis, the most important first."""
    cells = gather(jobs, [metric])
    rows = cells.rows[cells.rows[f"{metric}:n"] > 0]
    axes = [
        name
        for name in dict.fromkeys(("loss.kind", *cells.outside, *cells.inside))
        if name in rows and rows[name].nunique() > 1
    ]
    means = rows[f"{metric}:mean"].to_numpy(np.float64)
    values = replicate_values(cells, jobs, metric)
    drawn = _bootstrap(values.groupby(["cell", "unit"])["value"].mean(), rows.index)
    found = []
    for name in axes:
        has = rows[name].notna().to_numpy()
        levels = pd.factorize(rows[name][has])[0]
        shares = _share(drawn[:, has], levels)
        known = shares[~np.isnan(shares)]
        sure = len(known) > 0 and (rows[f"{metric}:n"] > 1).any()
        low, high = np.quantile(known, [0.025, 0.975]) if sure else (np.nan, np.nan)
        found.append(
            Importance(name, float(_share(means[None, has], levels)[0]), float(low), float(high))
        )
    return cells, sorted(found, key=lambda one: -np.nan_to_num(one.share, nan=-1.0))


def _bootstrap(values: pd.Series[float], cells: pd.Index[int]) -> Array:
    """Means of cells over replicates drawn with replacement: (draws, cells)."""
    random = np.random.default_rng(0)
    drawn = np.empty((DRAWS, len(cells)))
    for at, cell in enumerate(cells):
        own = np.asarray(values.loc[cell], np.float64)
        drawn[:, at] = own[random.integers(0, len(own), (DRAWS, len(own)))].mean(axis=1)
    return drawn


def _share(means: Array, levels: npt.NDArray[np.intp]) -> Array:
    """η² of each row of means (draws, cells): between the levels, over the whole."""
    away = means - means.mean(axis=1, keepdims=True)
    member = np.eye(levels.max() + 1)[levels]  # (cells, levels)
    between = ((away @ member) ** 2 / member.sum(axis=0)).sum(axis=1)
    whole = (away**2).sum(axis=1)
    share: Array = np.divide(between, whole, out=np.full(len(whole), np.nan), where=whole > 1e-18)
    return share


def axis_name(setting: str) -> str:
    """Name of an axis among others."""
    return "loss" if setting == "loss.kind" else short(setting, symbols=False).replace("_", " ")


def in_words(jobs: pd.DataFrame, metric: str) -> str:
    """Return the importances of a run's axes in one sentence; empty for fewer than two axes."""
    found = [one for one in importances(jobs, metric)[1] if not math.isnan(one.share)]
    if len(found) < 2:
        return ""
    parts = [
        f"{axis_name(one.setting)} {one.share:.0%}"
        + ("" if math.isnan(one.low) else f" ({one.low:.0%} … {one.high:.0%})")
        for one in found
    ]
    return f"Of the variance of {metric.replace('_', ' ')}: {', '.join(parts)}. {DEFINITION}"
