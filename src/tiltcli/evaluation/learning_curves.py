"""Learning curves of cells: the mean over replicates, epoch by epoch."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from tiltcli.errors import Outcome
from tiltcli.evaluation.cells import Cells, averaged

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A metric along the trainings of one cell."""

    epochs: npt.NDArray[np.int64]  # logged, rising, shape (n,)
    mean: Array  # over the replicates, shape (n,)
    low: Array  # lower end of its 95% interval; NaN with fewer than two replicates
    high: Array  # upper end
    replicates: int  # most that an epoch has


def learning_curves(
    cells: Cells, jobs: pd.DataFrame, metrics: pd.DataFrame, metric: str, wanted: Collection[int]
) -> dict[int, Curve]:
    """Average a metric over the completed jobs of some cells: where a lost one ends, it jumps."""
    done = jobs.loc[jobs["outcome"].eq(Outcome.COMPLETED), "job"]
    cell = cells.of_job.reindex(done)
    known = metrics[metrics["job"].isin(cell.index[cell.isin(list(wanted))])]
    table = known[["epoch", metric]].assign(
        cell=known["job"].map(cell), unit=known["job"].map(cells.unit_of)
    )
    found = averaged(table, ["cell", "epoch"], metric)
    curves = {}
    for number in found.index.unique("cell"):
        own = found.loc[number]
        mean, half = own["mean"].to_numpy(float), own["half"].to_numpy(float)
        epochs = own.index.to_numpy(np.int64)
        curves[int(number)] = Curve(epochs, mean, mean - half, mean + half, int(own["n"].max()))
    return curves
