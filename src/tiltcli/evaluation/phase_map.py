"""The numbers of a phase diagram: means and intervals per width, amplitude and period."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from tiltcli.errors import Outcome, UserError, with_suggestion
from tiltcli.evaluation.cells import Cell, best_cell, ranked_cells
from tiltcli.grid.settings import PATHS
from tiltcli.statistics import Estimate, mean_interval


@dataclass(frozen=True)
class Map:
    """One width. Arrays have shape (amplitudes, periods).

    Attributes:
        width: hidden units or channels.
        amplitudes: rows of the map, rising.
        periods: columns of the map, rising.
        means: mean of the metric over the completed jobs of a cell, NaN where there are none.
        halves: half-width of the mean's 95% interval, NaN with fewer than two jobs.
        jobs: number of jobs of each cell, ended in whatever way.
        lost: of them, diverged or failed.
        against: 1 or −1 where the 95% interval of the mean paired difference from static lies
            above or below zero, else 0.
        static: mean over the static jobs; n = 0 without any.
        best: row and column of the best cell among those that lost no job.

    """

    width: int
    amplitudes: tuple[float, ...]
    periods: tuple[int, ...]
    means: npt.NDArray[np.float64]
    halves: npt.NDArray[np.float64]
    jobs: npt.NDArray[np.int64]
    lost: npt.NDArray[np.int64]
    against: npt.NDArray[np.int64]
    static: Estimate
    best: tuple[int, int] | None

    @property
    def best_estimate(self) -> Estimate:
        """Mean and interval of the best cell; n = 0 without one."""
        if self.best is None:
            return Estimate(np.nan, np.nan, np.nan, 0)
        mean, half = float(self.means[self.best]), float(self.halves[self.best])
        return Estimate(mean, mean - half, mean + half, int(self.jobs[self.best]))


def phase_maps(jobs: pd.DataFrame, metric: str) -> list[Map]:
    """Means per width, amplitude and period.

    Args:
        jobs: jobs table of a run.
        metric: result column to average.

    Raises:
        UserError: if the column is unknown or empty, or there are no dynamical jobs.

    """
    known = [name for name in jobs.columns if name.endswith(("_accuracy", "_loss"))]
    if metric not in known:
        raise UserError(with_suggestion(f"--metric: no column {metric}", metric, known))
    dynamical = jobs[jobs["loss.kind"] == "dynamical"]
    if dynamical.empty:
        raise UserError("a phase diagram needs dynamical jobs; this run has none")
    if jobs[metric].isna().all():
        raise UserError(f"--metric: {metric} is empty: the data has no such part")
    amplitudes = tuple(float(a) for a in sorted(dynamical["loss.amplitude"].unique()))
    periods = tuple(int(p) for p in sorted(dynamical["loss.period"].unique()))
    return [
        _map(int(width), jobs[jobs["model.width"] == width], metric, amplitudes, periods)
        for width in sorted(jobs["model.width"].unique())
    ]


def _map(
    width: int,
    jobs: pd.DataFrame,
    metric: str,
    amplitudes: tuple[float, ...],
    periods: tuple[int, ...],
) -> Map:
    shape = len(amplitudes), len(periods)
    means, halves = np.full(shape, np.nan), np.full(shape, np.nan)
    count, lost, against = (np.zeros(shape, np.int64) for _ in range(3))
    still = jobs[(jobs["loss.kind"] == "static") & (jobs["outcome"] == Outcome.COMPLETED)]
    # What is the same in all jobs pairs nothing, and would cost time in every cell.
    needed = [
        name
        for name in jobs.columns
        if name in ("train.seed", metric) or ("." in name and jobs[name].nunique(dropna=False) > 1)
    ]
    for cell in ranked_cells(jobs, metric):
        at = _place(cell, amplitudes, periods)
        done = cell.jobs[cell.jobs["outcome"] == Outcome.COMPLETED]
        estimate = mean_interval(done[metric])
        means[at], halves[at] = estimate.mean, estimate.high - estimate.mean
        count[at], lost[at] = len(cell.jobs), cell.lost
        against[at] = _against(done[needed], still[needed], metric)
    best = best_cell(jobs, metric)
    return Map(
        width,
        amplitudes,
        periods,
        means,
        halves,
        count,
        lost,
        against,
        mean_interval(still[metric]),
        None if best is None else _place(best, amplitudes, periods),
    )


def _place(cell: Cell, amplitudes: tuple[float, ...], periods: tuple[int, ...]) -> tuple[int, int]:
    return amplitudes.index(cell.amplitude), periods.index(cell.period)


def _against(jobs: pd.DataFrame, static: pd.DataFrame, metric: str) -> int:
    """Sign of the mean paired difference if its 95% interval leaves out zero, else 0."""
    pair = [
        name
        for name in jobs.columns
        if "." in name
        and name not in PATHS
        and (name == "loss.base" or not name.startswith("loss."))
        and jobs[name].notna().all()
    ]
    if "train.seed" not in pair:
        return 0
    both = jobs[[*pair, metric]].merge(static[[*pair, metric]], on=pair, suffixes=("", "_static"))
    found = mean_interval(both[metric] - both[f"{metric}_static"])
    return int(found.low > 0) - int(found.high < 0)
