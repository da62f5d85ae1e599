"""Trainings step by step: panels of a trace, thinned so that every swing still shows.

The valley through a pulse, trained again where that takes seconds; and the instabilities of a run's
trainings, a list of them and pictures of the richest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tiltcli.analysis.pulses import Instability, richest, window_around
from tiltcli.analysis.thinning import thin
from tiltcli.analysis.traces import Trace, pick, traces_of
from tiltcli.analysis.valleys import Slice, Valleys, valleys_of
from tiltcli.errors import UserError
from tiltcli.evaluation.facets import class_name
from tiltcli.networks.initial import has_one_hidden_layer
from tiltcli.reports.loaded_runs import Run, dense
from tiltcli.reports.page_series import floats
from tiltcli.schedule import Schedule
from tiltcli.store.read import Tables

STRETCHES, MOST_CLASSES = 1500, 8
MOST_TRAININGS, MOST_ROWS, MOST_ZOOMS = 40, 300, 6

ZOOM_STEPS = 3000
"""Steps of an enlarged part; each is drawn."""


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
        return pick(run.folder, chosen)
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


@dataclass(frozen=True)
class Watched:
    """A training whose every step was logged."""

    trace: Trace  # the training
    found: list[Instability]  # its instabilities, in the order of their onsets

    @property
    def setting(self) -> str:
        """Which training of its run it is."""
        return self.trace.title.partition(": ")[2]


def watch(run: Run) -> list[Watched]:
    """Look at a run's trainings step by step, at the first 40 of those that can be."""
    tables = run.tables
    first = dense(tables.jobs).sort_values("loss.kind", kind="stable")  # dynamical before static
    ids = list(first["job"].head(MOST_TRAININGS))
    if not ids:
        return []
    own = tables.metrics[tables.metrics["job"].isin(ids)]
    probes = tables.probes[tables.probes["job"].isin(ids)]
    ids = [one for one in ids if one in set(own["job"].unique())]
    try:
        traces = traces_of(run.folder, Tables(tables.name, tables.jobs, own, probes), ids)
    except (UserError, OSError):
        return []
    return [Watched(one, one.instabilities()) for one in traces]


def enlarged(watched: Sequence[Watched]) -> list[dict[str, Any]]:
    """Panels around the instabilities with the longest cascades, one of each training first."""
    ranked = [(one, richest(one.found, _whole(one.trace))[:MOST_ZOOMS]) for one in watched]
    zooms = [(i, one, each) for one, own in ranked for i, each in enumerate(own)]
    zooms.sort(key=lambda zoom: (zoom[0], -len(zoom[2].cascade.periods)))
    found = []
    for _, one, each in zooms[:MOST_ZOOMS]:
        first, last = window_around(each, _whole(one.trace))
        window = (first, min(last, first + ZOOM_STEPS))
        page = panels(one.trace, window, one.found, enlarged=True)
        page["about"] = f"{one.setting}: onset at step {each.onset}, cascade {each.cascade}"
        page["marks"] = [[each.onset, "onset"]]
        if each.crossing is not None and window[0] <= each.crossing <= window[1]:
            page["marks"].append([each.crossing, "λ_max crosses its bound"])
        found.append(page)
    return found


def _whole(trace: Trace) -> tuple[int, int]:
    steps = trace.metrics["step"]
    return int(steps.min()), int(steps.max())


COLUMNS: dict[str, Callable[[Instability], Any]] = {
    "pulse": lambda one: one.pulse,
    "class": lambda one: one.label,
    "onset": lambda one: one.onset,
    "t": lambda one: one.t,
    "Γ": lambda one: one.gamma,
    "crossing": lambda one: one.crossing,
    "λ_max": lambda one: one.hessian_max,
    "λ_max / bound": lambda one: one.share,
    "end": lambda one: "lasts" if one.end is None else one.end,
    "cascade": lambda one: one.cascade,
}
HEADER = ("training", *COLUMNS)


def listed(watched: Sequence[Watched]) -> list[list[str]]:
    """Rows of the table of instabilities, as texts under `HEADER`."""
    return [
        [one.setting, *(_text(value(each)) for value in COLUMNS.values())]
        for one in watched
        for each in one.found
    ]


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def summed_up(run: Run, watched: Sequence[Watched]) -> str:
    """One or two sentences on what was found, or on why nothing can be."""
    if not watched:
        return (
            "Instabilities show in the losses of single steps, which this run did not keep: "
            'train.log_every = 1 with train.batch_size = "full" keeps them.'
        )
    every = len(dense(run.tables.jobs))
    of = f"the first {len(watched)} of {every} trainings" if every > len(watched) else ""
    of = of or (f"{every} trainings" if every > 1 else "the training")
    found = [each for one in watched for each in one.found]
    began = f"{len(found)} instabilities begin" if len(found) != 1 else "1 instability begins"
    said = f"In {of} whose every step was logged, {began}: the loss oscillates about its course."
    shares = np.array([each.share for each in found])
    shares = shares[~np.isnan(shares)]
    if len(shares):
        said += (
            f" At {len(shares)} of the onsets λ_max was probed near by: in the median it stood at "
            f"{np.median(shares):.3f} of its bound (from {shares.min():.3f} to {shares.max():.3f})."
        )
    return said
