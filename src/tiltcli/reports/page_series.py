"""Numbers and learning curves on their way into a page: packed, and small enough."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tiltcli.analysis.thinning import evenly
from tiltcli.errors import Outcome
from tiltcli.evaluation.cells import averaged

if TYPE_CHECKING:
    from tiltcli.reports.page_data import PageCells


Array = npt.NDArray[np.float64]

FEWEST_POINTS, MOST_POINTS = 12, 120

MISSING = 0xFFFF
"""Code of a missing share."""

SHARE_BYTES, FLOAT_BYTES = 8 / 3, 16 / 3
"""Bytes a number takes in the page."""


def floats(values: npt.ArrayLike) -> dict[str, str]:
    """Any numbers as little-endian float32 in base64; NaN stays NaN."""
    return {"f": _base64(np.asarray(values, dtype="<f4"))}


def shares(values: npt.ArrayLike) -> dict[str, str]:
    """Return numbers from 0 to 1 in steps of 1/65534 (0.00002), in base64; NaN has its own code.

    What lies outside is cut: an interval of a mean accuracy may reach beyond 1.
    """
    v = np.asarray(values, dtype=np.float64)
    codes = np.rint(np.clip(np.nan_to_num(v, nan=0.0), 0, 1) * (MISSING - 1))
    return {"s": _base64(np.where(np.isnan(v), MISSING, codes).astype("<u2"))}


def _base64(values: npt.NDArray[Any]) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")


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
    done = jobs.loc[jobs["outcome"] == Outcome.COMPLETED, "job"]
    codes, names = pd.factorize(table["job"])
    cell = page.cells.of_job.reindex(done).reindex(names).to_numpy()
    unit = page.cells.unit_of.reindex(names).to_numpy()
    known = table.assign(cell=cell[codes], unit=unit[codes])
    outers = page.rows["outer"].to_numpy(np.int64)
    space = sum(3 * (SHARE_BYTES if share else FLOAT_BYTES) for share in columns.values())
    most = int(budget / space / FEWEST_POINTS)
    wanted = np.sort([*dict.fromkeys([*first, *range(len(outers))])][:most])
    points = int(np.clip(budget / space / max(len(wanted), 1), FEWEST_POINTS, MOST_POINTS))
    blocks = []
    for outer in np.unique(outers):
        kept = wanted[outers[wanted] == outer]
        rows = known[known["cell"].isin(kept)]
        if len(rows):
            blocks.append({"outer": int(outer), **_block(rows, kept, columns, points, back)})
    return blocks


def _block(
    rows: pd.DataFrame,
    kept: npt.NDArray[np.int64],
    columns: Mapping[str, bool],
    points: int,
    back: Callable[[Array], Array],
) -> dict[str, Any]:
    logged = np.unique(rows["epoch"].to_numpy(np.int64))
    epochs = logged[evenly(len(logged), points)]
    rows = rows[rows["epoch"].isin(epochs)]
    places = pd.MultiIndex.from_product([kept, epochs])
    packed = {}
    for name, share in columns.items():
        found = averaged(rows, ["cell", "epoch"], name).reindex(places)
        mean, half = found["mean"].to_numpy(float), found["half"].to_numpy(float)
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
