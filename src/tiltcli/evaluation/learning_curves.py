"""Learning curves of cells: the mean over replicates, epoch by epoch."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from tiltcli.errors import Outcome
from tiltcli.evaluation.cells import Cells
from tiltcli.statistics import half_width

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
    done = jobs.set_index("job")
    done = done[done["outcome"].eq(Outcome.COMPLETED).to_numpy()]
    done = done.assign(cell=cells.of_job.reindex(done.index))
    done = done[done["cell"].isin(list(wanted))]
    known = metrics.loc[metrics["job"].isin(done.index), ["job", "epoch", metric]].dropna()
    table = known.assign(cell=known["job"].map(done["cell"]), unit=known["job"].map(cells.unit_of))
    by_unit = table.groupby(["cell", "epoch", "unit"], sort=True)[metric].mean()
    found = {}
    for number in by_unit.index.unique("cell"):
        stages = by_unit.loc[number].groupby("epoch")
        mean, n = stages.mean(), stages.count().to_numpy()
        half = half_width(stages.std(ddof=1).to_numpy(float), n)
        means = mean.to_numpy(float)
        epochs = mean.index.to_numpy(np.int64)
        found[int(number)] = Curve(epochs, means, means - half, means + half, int(n.max()))
    return found
