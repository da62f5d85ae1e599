"""The class weights Γ(t) of a run's own amplitudes and periods, ready to be drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tiltcli.analysis.traces import pick
from tiltcli.data import dataset_of
from tiltcli.errors import UserError
from tiltcli.reports.loaded_runs import Run
from tiltcli.reports.pack import floats
from tiltcli.schedule import Schedule

MOST_SCHEDULES, POINTS = 1000, 97


def classes_of(run: Run) -> int | None:
    """Number of classes; None if the run's data is no longer there to be counted."""
    known = run.tables.jobs["data.classes"].dropna()
    if len(known):
        return int(known.iloc[0])
    try:
        return dataset_of(pick(run.folder, run.tables, dynamical=False)).classes
    except (UserError, OSError):
        return None


def weights(run: Run, rows: pd.DataFrame, first: list[int]) -> dict[str, Any]:
    """One pulse of each schedule of the run that repeats its pulses class by class."""
    classes = classes_of(run)
    schedules: list[dict[str, Any]] = []
    of_cell: dict[str, int] = {}
    if classes is not None and classes >= 2:
        # Of the others one pulse is not the whole story.
        usual = rows["loss.order"].eq("cyclic") & rows["loss.timing"].eq("pulse")
        usual &= rows["loss.groups"].eq("class") & rows["loss.half_life"].eq(0)
        dynamical = rows[usual & ~rows["static"]]
        order = dynamical.index[np.argsort(~dynamical.index.isin(first), kind="stable")]
        keys = ["loss.amplitude", "loss.period", "loss.rest", "loss.shape"]
        number: dict[tuple[Any, ...], int] = {}
        for cell, amplitude, period, rest, shape in dynamical.loc[order, keys].itertuples():
            key = (amplitude, period, rest, shape)
            if key not in number:
                if len(schedules) == MOST_SCHEDULES:
                    continue
                number[key] = len(schedules)
                schedule = Schedule(classes, amplitude, int(period), int(rest), shape=shape)
                schedules.append(_pulse(schedule))
            of_cell[str(cell)] = number[key]
    return {"classes": classes, "of_cell": of_cell, "schedules": schedules}


def _pulse(schedule: Schedule) -> dict[str, Any]:
    """Weights at every step of a short pulse, and at even distances of a long one."""
    steps = np.unique(np.linspace(0, schedule.pulse - 1, min(schedule.pulse, POINTS)).astype(int))
    # The peak, and where the rest begins, are corners of the line.
    corners = [c for c in (schedule.period // 2, schedule.period) if c < schedule.pulse]
    steps = np.unique([*steps, *corners])
    gammas = schedule.gamma(steps)
    return {
        "pulse": schedule.pulse,
        "steps": steps.tolist(),
        "up": floats(gammas[:, 0]),
        "down": floats(gammas[:, 1]),
    }
