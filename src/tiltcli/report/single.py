"""One training step by step: the panels of its trace, thinned so that every swing still shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tiltcli.plots.style import thin
from tiltcli.records import UserError
from tiltcli.report.load import Run
from tiltcli.report.pack import floats
from tiltcli.schedule import Schedule
from tiltcli.store.read import Tables
from tiltcli.traces import Trace, pick, trace_of

STRETCHES, MOST_CLASSES = 1500, 8


def single(run: Run) -> Trace | None:
    """The training to show step by step: a run's only job, one logged every step, or a probed one.

    Returns:
        the first such job, a dynamical one if there is any; None if there is none, or if the
        run's grid or data no longer lead to it.

    """
    tables = run.tables
    jobs = tables.jobs
    if len(jobs) > 1:
        dense = jobs["train.log_every"].eq(1) & jobs["train.batch_size"].eq("full")
        jobs = jobs[jobs["job"].isin(tables.probes["job"]) | dense]
    if jobs.empty:
        return None
    jobs = jobs[jobs["job"].isin(tables.metrics["job"].unique())]
    if jobs.empty:
        return None
    chosen = Tables(tables.name, jobs, tables.metrics, tables.probes)
    try:
        return trace_of(chosen, pick(run.folder, chosen, dynamical=False))
    except (UserError, OSError):
        return None


def panels(one: Trace, window: tuple[int, int] | None = None) -> dict[str, Any]:
    """Panels of a training over a common step axis.

    Args:
        one: the training.
        window: first and last step; None for all.

    Returns:
        `about` (which training it is), `from`, `to`, and `panels`, each with `id`, `title`, `log`
        (whether the axis is), and `series` (name, colour number, and packed `x` and `y`).

    """
    step = one.metrics["step"]
    first, last = window or (int(step.min()), int(step.max()))
    inside = step.between(first, last)
    metrics = one.metrics[inside]
    found = []
    if one.schedule is not None:
        found.append(_gammas(one.schedule, first, last))
    losses = [_series("static loss L", 1, metrics, "train_loss")]
    if one.schedule is not None:
        losses.insert(0, _series("F, with Γ(t)", 0, metrics, "dynamical_loss"))
    found.append(_panel("loss", "loss (nat)", losses, log=True))
    if len(metrics) > 2 and (metrics["step"].diff().dropna() == 1).all():
        change = metrics.assign(change=metrics["dynamical_loss"].diff()).iloc[1:]
        series = [_series("F(t) − F(t−1)", 0, change, "change")]
        found.append(_panel("change", "F(t) − F(t−1) (nat)", series))
    accuracies = [_series("training", 0, metrics, "train_accuracy")]
    if metrics["val_accuracy"].notna().any():
        accuracies.append(_series("validation", 1, metrics, "val_accuracy"))
    found.append(_panel("accuracy", "accuracy", accuracies))
    found += _probed(one, first, last)
    return {"about": one.title, "from": first, "to": last, "panels": found}


def _probed(one: Trace, first: int, last: int) -> list[dict[str, Any]]:
    if one.probes.empty:
        return []
    probes = one.probes[one.probes["step"].between(first, last)]
    found = []
    series = [
        _series(name, colour, probes, column)
        for name, colour, column in (
            ("λ_max of F(·, t)", 0, "hessian_max"),
            ("λ_max of the static loss", 2, "hessian_max_static"),
        )
        if column in probes and probes[column].notna().any()
    ]
    if series:
        if one.bound is not None:
            series.append(_series("2/η", 1, probes.assign(edge=one.bound), "edge"))
        found.append(_panel("hessian", "Hessian λ_max", series, log=True))
    if "ntk_max" in probes and probes["ntk_max"].notna().any():
        series = [_series("NTK λ_max", 2, probes, "ntk_max")]
        found.append(_panel("ntk", "NTK λ_max", series, log=True))
    return found


def _panel(
    name: str, title: str, series: list[dict[str, Any]], *, log: bool = False
) -> dict[str, Any]:
    return {"id": name, "title": title, "log": log, "series": series}


def _series(name: str, colour: int, table: pd.DataFrame, column: str) -> dict[str, Any]:
    values = table[column].to_numpy(float)
    kept = thin(values, STRETCHES)
    return _packed(name, colour, table["step"].to_numpy()[kept], values[kept])


def _packed(
    name: str, colour: int, x: npt.NDArray[Any], y: npt.NDArray[np.float64]
) -> dict[str, Any]:
    return {"name": name, "colour": colour, "x": floats(x), "y": floats(y)}


def _gammas(schedule: Schedule, first: int, last: int) -> dict[str, Any]:
    """Weights at the corners of every pulse; of too many pulses, at even distances."""
    pulses = np.arange(first // schedule.pulse, last // schedule.pulse + 1) * schedule.pulse
    corners = [0, schedule.period // 2, max(schedule.period - 1, 0), schedule.period]
    if len(pulses) > STRETCHES:
        steps = np.linspace(first, last, 4 * STRETCHES).astype(np.int64)
    else:
        steps = (pulses[:, None] + np.array(corners)).ravel()
        if schedule.shape == "sine":
            within = np.linspace(0, schedule.period, 33).astype(np.int64)
            steps = np.concatenate([steps, (pulses[:, None] + within).ravel()])
    steps = np.unique([first, last, *steps[(steps >= first) & (steps <= last)]])
    gammas = schedule.gamma(steps)
    shown = min(schedule.classes, MOST_CLASSES)
    series = [_packed(f"class {i}", i, steps, gammas[:, i]) for i in range(shown)]
    return _panel("gamma", "class weight Γ(t)", series)
