"""Cells of a grid: the dynamical jobs of one amplitude and period, which differ by their seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tiltcli.errors import Outcome
from tiltcli.evaluation.comparison import REPLICATES
from tiltcli.grid.settings import PATHS

CELL = ("loss.amplitude", "loss.period")


@dataclass(frozen=True)
class Cell:
    """The jobs of one amplitude and period.

    Attributes:
        amplitude: A.
        period: T, optimiser steps.
        jobs: rows of the jobs table, ended in whatever way.
        score: mean of the metric asked for over the completed jobs; NaN without any.

    """

    amplitude: float
    period: int
    jobs: pd.DataFrame
    score: float

    @property
    def lost(self) -> int:
        """Jobs that diverged or failed."""
        return int((self.jobs["outcome"] != Outcome.COMPLETED).sum())

    @property
    def label(self) -> str:
        """Name of the cell in a legend."""
        return f"A {self.amplitude:g}, T {self.period}"


def ranked_cells(jobs: pd.DataFrame, metric: str) -> list[Cell]:
    """Cells of some jobs (of one width, say), the best first.

    The mean of a cell that lost jobs is of the lucky seeds, so such a cell comes after all whole
    ones, as `tiltcli confirm` has it. Of equals the first in the order of amplitude and period
    comes first.

    Args:
        jobs: jobs table; static jobs are left out.
        metric: result column; of one that ends in "loss" less is better.

    """
    sign = 1.0 if metric.endswith("loss") else -1.0
    found = []
    dynamical = jobs[jobs["loss.kind"] == "dynamical"]
    keys: Any
    for keys, own in dynamical.groupby(list(CELL)):
        done = own[own["outcome"] == Outcome.COMPLETED]
        score = float(done[metric].mean()) if len(done) else np.nan
        found.append(Cell(float(keys[0]), int(keys[1]), own, score))
    return sorted(
        found,
        key=lambda cell: (np.isnan(cell.score), cell.lost > 0, sign * np.nan_to_num(cell.score)),
    )


def best_cell(jobs: pd.DataFrame, metric: str) -> Cell | None:
    """Return the best of `ranked_cells` if it lost no job, else None."""
    ranked = ranked_cells(jobs, metric)
    if not ranked or ranked[0].lost or np.isnan(ranked[0].score):
        return None
    return ranked[0]


def mixed(jobs: pd.DataFrame) -> list[str]:
    """Settings that vary although a mean over a cell would not show it, such as `train.lr`."""
    shown = {"model.width", "loss.kind", *CELL, *REPLICATES, *PATHS, *PATHS.values()}
    dynamical = jobs[jobs["loss.kind"] == "dynamical"]
    return [
        name
        for name in jobs.columns
        if "." in name
        and name not in shown
        and max(jobs[name].dropna().nunique(), dynamical[name].nunique(dropna=False)) > 1
    ]


def judge(jobs: pd.DataFrame) -> str:
    """Column that decides which cell is best: validation accuracy, or what stands in for it."""
    return "val_accuracy" if jobs["val_accuracy"].notna().any() else "train_accuracy"
