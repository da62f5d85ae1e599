"""Instabilities of a run's trainings: a list of them, and pictures of the richest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiltcli.analysis.pulses import Instability, richest, window_around
from tiltcli.analysis.traces import Trace, jobs_of, trace_of
from tiltcli.errors import UserError
from tiltcli.reports.loaded_runs import Run, dense
from tiltcli.reports.one_training import panels
from tiltcli.store.read import Tables

MOST_TRAININGS, MOST_ROWS, MOST_ZOOMS = 40, 300, 6

ZOOM_STEPS = 3000
"""Steps of an enlarged part; each is drawn."""


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
        jobs = jobs_of(run.folder, ids)
        traces = [trace_of(Tables(tables.name, tables.jobs, own, probes), job) for job in jobs]
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
