"""One training step by step: the panels of its trace, thinned so that every swing still shows.

And its valley through a pulse, trained again where that takes seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tiltcli.analysis.pulses import Instability
from tiltcli.analysis.thinning import thin
from tiltcli.analysis.traces import Trace, pick, trace_of
from tiltcli.analysis.valleys import Slice, Valleys, valleys_of
from tiltcli.errors import UserError
from tiltcli.evaluation.facets import class_name
from tiltcli.networks.initial import has_one_hidden_layer
from tiltcli.reports.loaded_runs import Run, dense
from tiltcli.reports.pack import floats
from tiltcli.schedule import Schedule
from tiltcli.store.read import Tables

STRETCHES, MOST_CLASSES = 1500, 8


def single(run: Run) -> Trace | None:
    """The training to show step by step: the only one, one probed, or one logged every step."""
    tables = run.tables
    jobs = tables.jobs
    if len(jobs) > 1:
        close = jobs["job"].isin(dense(jobs)["job"])
        jobs = jobs[jobs["job"].isin(tables.probes["job"]) | close]
    jobs = jobs[jobs["job"].isin(tables.metrics["job"].unique())]
    if jobs.empty:
        return None
    chosen = Tables(tables.name, jobs, tables.metrics, tables.probes)
    try:
        return trace_of(chosen, pick(run.folder, chosen, dynamical=False))
    except (UserError, OSError):
        return None


def panels(
    one: Trace,
    window: tuple[int, int] | None = None,
    found: Sequence[Instability] = (),
    *,
    enlarged: bool = False,
) -> dict[str, Any]:
    """Panels of a training over a common step axis."""
    step = one.metrics["step"]
    first, last = window or (int(step.min()), int(step.max()))
    metrics = one.metrics[step.between(first, last)]
    all_panels = []
    if one.schedule is not None and not enlarged:
        all_panels.append(_gammas(one, one.schedule, first, last))
    losses = [_series("static loss L", 1, metrics, "train_loss", points=enlarged)]
    if one.schedule is not None:
        losses.insert(0, _series("F, with Γ(t)", 0, metrics, "dynamical_loss", points=enlarged))
    all_panels.append(_panel("loss", "loss (nat)", losses, log=True))
    if len(metrics) > 2 and (metrics["step"].diff().dropna() == 1).all():
        change = metrics.assign(change=metrics["dynamical_loss"].diff()).iloc[1:]
        series = [_series("F(t) − F(t−1)", 0, change, "change", points=enlarged)]
        all_panels.append(_panel("change", "F(t) − F(t−1) (nat)", series))
    if not enlarged:
        accuracies = [_series("training", 0, metrics, "train_accuracy")]
        if metrics["val_accuracy"].notna().any():
            accuracies.append(_series("validation", 1, metrics, "val_accuracy"))
        all_panels.append(_panel("accuracy", "accuracy", accuracies))
    all_panels += _probed(one, first, last, enlarged=enlarged)
    ends = [(each.onset, last if each.end is None else each.end) for each in found]
    shaded = [[max(a, first), min(b, last)] for a, b in ends if a < last and b > first]
    return {"about": one.title, "from": first, "to": last, "shaded": shaded, "panels": all_panels}


def _probed(one: Trace, first: int, last: int, *, enlarged: bool) -> list[dict[str, Any]]:
    if one.probes.empty:
        return []
    probes = one.probes[one.probes["step"].between(first, last)]
    found = []
    series = [
        _series(name, colour, probes, column, points=True)
        for name, colour, column in (("of F", 0, "hessian_max"), ("of L", 2, "hessian_max_static"))
        if column in probes and probes[column].notna().any()
    ]
    if series:
        if one.bound is not None:
            if one.bound.column != "hessian_max" and one.curvature is not None:
                series.append(_series(one.bound.column, 3, probes, one.bound.column, points=True))
            x, y = probes["step"].to_numpy(float), one.bounds[probes.index]
            if len(np.unique(y)) == 1:
                x, y = np.array([first, last], float), y[[0, -1]]
            series.append(_line(one.bound.formula, 1, x, y, dash=True))
        found.append(_panel("hessian", "Hessian λ_max", series, log=True))
    if not enlarged and "ntk_max" in probes and probes["ntk_max"].notna().any():
        series = [_series("NTK λ_max", 2, probes, "ntk_max", points=True)]
        found.append(_panel("ntk", "NTK λ_max", series, log=True))
    return found


def _panel(
    name: str, title: str, series: list[dict[str, Any]], *, log: bool = False
) -> dict[str, Any]:
    return {"id": name, "title": title, "log": log, "series": series}


def _series(
    name: str, colour: int, table: pd.DataFrame, column: str, *, points: bool = False
) -> dict[str, Any]:
    values = table[column].to_numpy(float)
    kept = thin(values, STRETCHES)
    return _line(name, colour, table["step"].to_numpy()[kept], values[kept], points=points)


def _line(
    name: str, colour: int, x: Any, y: Any, *, points: bool = False, dash: bool = False
) -> dict[str, Any]:
    packed = {"x": floats(x), "y": floats(y)}
    return {"name": name, "colour": colour, **packed, "points": points, "dash": dash}


def _gammas(one: Trace, schedule: Schedule, first: int, last: int) -> dict[str, Any]:
    """Weights through every pulse, densest at its ends; of too many pulses, at even distances."""
    pulses = np.arange(first // schedule.pulse, last // schedule.pulse + 1) * schedule.pulse
    corners = [0, schedule.period // 2, max(schedule.period - 1, 0), schedule.period]
    if len(pulses) > STRETCHES:
        steps = np.linspace(first, last, 4 * STRETCHES).astype(np.int64)
    else:
        # Even a triangle's Γ is curved: it is g over the sum of all, and steepest near g = 1.
        rise = schedule.period / 2 * np.linspace(0, 1, 25) ** 2
        within = np.concatenate([corners, rise, schedule.period - rise]).astype(np.int64)
        steps = (pulses[:, None] + within).ravel()
    steps = np.unique([first, last, *steps[(steps >= first) & (steps <= last)]])
    gammas = schedule.gamma(steps)
    shown = min(schedule.classes, MOST_CLASSES)
    series = [_line(class_name(one.labels, i), i, steps, gammas[:, i]) for i in range(shown)]
    return _panel("gamma", "class weight Γ(t)", series)


PULSES, PHASES = 2, 13
"""Pulses trained again, and steps of each at which the valley is cut."""

SHOWN = 1.5
"""The line is drawn so far to either side of the weights."""

MOST_WORK = 6e10
"""Floating-point operations up to which a training is done again: a few seconds of one core."""

_PRODUCTS = 150  # of a Hessian with a vector, to find one eigenvector


def valley(run: Run, one: Trace) -> tuple[dict[str, Any] | None, str]:
    """Cut through the loss along the Hessian's top eigenvector, through a pulse of a training."""
    schedule = one.schedule
    if schedule is None:
        return None, "The valley is followed through a pulse: a static training has none."
    absent = "The valley through a pulse is not part of this page: "
    if not has_one_hidden_layer(one.job):
        return None, f"{absent}it is cut through networks of one hidden layer."
    (row,) = run.tables.jobs[run.tables.jobs["job"] == one.job.id].to_dict("records")
    if work(one, int(row["parameters"])) > MOST_WORK:
        return None, (
            f"{absent}this training takes too long to be done again for it; "
            f"tiltcli plot valley {run.name} draws it."
        )
    try:
        found = valleys_of(one, str(row["engine"]), most=PULSES, phases=PHASES)
    except (UserError, OSError) as error:
        return None, f"{absent}{error}."
    return _page(found, schedule.period), (
        f"{one.title}, trained again for this picture: F along the unit eigenvector of its "
        f"Hessian's λ_max, through pulse {found.pulse}. Width: of the stretch on which F lies less "
        "than 0.02 above its floor."
    )


def work(one: Trace, parameters: int) -> float:
    """Return about how many floating-point operations a picture of the valley takes."""
    assert one.schedule is not None
    passes = PULSES * one.schedule.pulse + 2 * _PRODUCTS * (PULSES + 1) * PHASES
    return 6.0 * one.samples * parameters * passes


def _page(found: Valleys, period: int) -> dict[str, Any]:
    own = [one for one in found.trained if 0 <= one.step - found.begin <= period]
    alphas = own[0].alphas
    kept = np.abs(alphas) <= SHOWN + 1e-9

    def series(slices: Sequence[Slice]) -> dict[str, Any]:
        return {
            "losses": [floats(one.losses[kept]) for one in slices],
            "steps": [one.step for one in slices],
            "width": floats([one.valley.width for one in slices]),
            "floor": floats([one.valley.depth for one in slices]),
        }

    return {
        "pulse": found.pulse,
        "begin": found.begin,
        "period": period,
        "middle": found.middle,
        "alphas": floats(alphas[kept]),
        "trained": series(own),
        "frozen": series(found.frozen),
    }
