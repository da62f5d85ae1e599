"""Learning curves of every cell, mean with interval over its jobs, in bounded space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tiltcli.errors import Outcome
from tiltcli.reports.pack import FLOAT_BYTES, SHARE_BYTES, floats, shares
from tiltcli.reports.page_cells import PageCells
from tiltcli.statistics import half_width

Array = npt.NDArray[np.float64]

FEWEST_POINTS, MOST_POINTS = 12, 120


def curves(
    jobs: pd.DataFrame,
    table: pd.DataFrame,
    columns: Mapping[str, bool],
    page: PageCells,
    first: Sequence[int],
    budget: float,
    back: Callable[[Array], Array] = np.asarray,
) -> list[dict[str, Any]]:
    """Return the mean of a table's columns over the completed jobs of each cell, packed in blocks.

    Where there are more logged epochs than there is room for (`budget`, in bytes), evenly spaced
    ones are kept, the first and the last among them; where there are so many cells that even a
    dozen points each are too many, `first` and those that follow in their order. A block holds a
    number of settings outside the loss; its columns are of shape (cells, epochs), row by row. Means
    are transformed by `back`.
    """
    done = set(jobs.loc[jobs["outcome"] == Outcome.COMPLETED, "job"])
    codes, names = pd.factorize(table["job"])
    number: npt.NDArray[np.int64] = np.array(page.cells.of_job.reindex(names).fillna(-1), np.int64)
    number[[name not in done for name in names]] = -1
    cell: npt.NDArray[np.int64] = number[codes]
    unit: npt.NDArray[np.int64] = _units(page, names, number)[codes]
    space = sum(3 * (SHARE_BYTES if share else FLOAT_BYTES) for share in columns.values())
    outers = page.rows["outer"].to_numpy(np.int64)
    wanted = np.fromiter(dict.fromkeys([*first, *range(len(outers))]), dtype=np.int64)
    most = int(budget / space / FEWEST_POINTS)
    wanted = np.sort(wanted[:most])
    points = int(np.clip(budget / space / max(len(wanted), 1), FEWEST_POINTS, MOST_POINTS))
    blocks = []
    for outer in np.unique(outers):
        kept = wanted[outers[wanted] == outer].astype(np.int64)
        inside = np.isin(cell, kept)
        if inside.any():
            rows = table.loc[inside]
            blocks.append(
                {
                    "outer": int(outer),
                    **_block(rows, cell[inside], unit[inside], kept, columns, points, back),
                }
            )
    return blocks


def _block(
    rows: pd.DataFrame,
    cell: npt.NDArray[np.int64],
    unit: npt.NDArray[np.int64],
    kept: npt.NDArray[np.int64],
    columns: Mapping[str, bool],
    points: int,
    back: Callable[[Array], Array],
) -> dict[str, Any]:
    logged = np.unique(rows["epoch"].to_numpy(np.int64))
    chosen = np.unique(
        np.linspace(0, len(logged) - 1, min(points, len(logged))).round().astype(int)
    )
    epochs = logged[chosen]
    epoch = rows["epoch"].to_numpy(np.int64)
    at = np.searchsorted(epochs, epoch).clip(max=len(epochs) - 1)
    hit = epochs[at] == epoch
    place = np.searchsorted(kept, cell[hit]) * len(epochs) + at[hit]
    size = len(kept) * len(epochs)
    packed = {}
    for name, share in columns.items():
        values = rows[name].to_numpy(float)[hit]
        mean, half = _mean(values, place, unit[hit], size)
        pack = shares if share else floats
        packed[name] = {"mean": pack(back(mean))}
        if not np.isnan(half).all():
            packed[name] |= {"low": pack(back(mean - half)), "high": pack(back(mean + half))}
    return {
        "epochs": epochs.tolist(),
        "logged": len(logged),
        "cells": kept.tolist(),
        "columns": packed,
    }


def _units(
    page: PageCells, names: pd.Index[Any], cell: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Numbers of the replicates of jobs; all 0 where none has several jobs in a cell."""
    unit = pd.factorize(page.cells.unit_of.reindex(names).to_numpy())[0].astype(np.int64)
    kept = pd.DataFrame({"cell": cell, "unit": unit})[cell >= 0]
    return unit if kept.duplicated().any() else np.zeros_like(unit)


def _mean(
    values: Array, place: npt.NDArray[np.int64], unit: npt.NDArray[np.int64], size: int
) -> tuple[Array, Array]:
    """Mean and half the 95% interval of the values that share a place, over their replicates."""
    sound = ~np.isnan(values)
    values, place, unit = values[sound], place[sound], unit[sound]
    if unit.any():  # a draw of the data is a replicate: its mean over its seeds
        count = int(unit.max()) + 1
        keys, which = np.unique(place * count + unit, return_inverse=True)
        values, place = np.bincount(which, values) / np.bincount(which), keys // count
    n = np.bincount(place, minlength=size)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(place, values, size) / n
        spread = np.bincount(place, (values - mean[place]) ** 2, size) / (n - 1)
        spread = np.sqrt(np.where(n > 1, spread, np.nan))
    return np.where(n > 0, mean, np.nan), half_width(spread, n)
