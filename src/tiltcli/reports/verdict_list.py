"""All findings of the runs in one list, judged and corrected together; every format shows it."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from tiltcli.analysis.traces import Trace, traces_of
from tiltcli.errors import Outcome, UserError
from tiltcli.evaluation.cells import REPLICATES
from tiltcli.evaluation.claims import CLAIMS, Finding, Verdict, accuracy_claims, verdict_of
from tiltcli.evaluation.claims.curvature_claims import lambda_claims
from tiltcli.evaluation.claims.onset_claims import instability_claims
from tiltcli.evaluation.claims.valley_claims import valley_claims
from tiltcli.evaluation.facets import named
from tiltcli.evaluation.texts import Table, interval
from tiltcli.grid.settings import tilting
from tiltcli.networks.initial import has_one_hidden_layer
from tiltcli.reports.loaded_runs import Run
from tiltcli.reports.template import render
from tiltcli.schedule import BLIND
from tiltcli.statistics import holm, mean_interval

K = TypeVar("K")


@dataclass(frozen=True)
class Judged:
    """A finding with its run."""

    run: str  # name of the run
    finding: Finding  # claim and measurement
    p: float  # p-value, corrected (Holm) over all findings of the report; NaN without a test

    @property
    def verdict(self) -> Verdict:
        """Verdict by the corrected p."""
        return verdict_of(self.finding.estimate, self.p, self.finding.against)


MOST_JOBS = 96
"""Probed jobs of a run up to which they are judged: each is looked at step by step."""

BASES = {"cross_entropy": "cross-entropy", "mse": "mse"}


def probed_traces(run: Run) -> list[Trace]:
    """Completed trainings of a run that were probed."""
    jobs = run.tables.jobs
    done = jobs[jobs["job"].isin(run.tables.probes["job"]) & (jobs["outcome"] == Outcome.COMPLETED)]
    if done.empty or len(done) > MOST_JOBS:
        return []
    try:
        return traces_of(run.folder, run.tables, list(done["job"]))
    except (UserError, OSError):
        return []


def curvature_findings(run: Run) -> list[Finding]:
    """Return the findings of a run over several seeds; none without probes, or of one training.

    Each network, loss and optimiser by itself. Valleys need trainings to be made again: they are
    judged where single steps were kept, which is where a run is meant to be looked at closely.
    """
    found: list[Finding] = []
    # Trainings that differ only in their seeds and in how the loss is tilted, together.
    apart = {*REPLICATES, "loss.kind", *tilting()}
    together = _together(probed_traces(run), lambda one: _settings(one, apart))
    surroundings = list(together.values())
    for traces in surroundings:
        tilted = [one for one in traces if one.schedule and one.job["loss.groups"] != BLIND]
        if len(tilted) < 2 or len({_settings(one, REPLICATES) for one in tilted}) > 1:
            continue
        base = _where(traces[0], surroundings)
        found += instability_claims(tilted, base)
        controls = {
            "static": [one for one in traces if one.schedule is None],
            "class-blind": [one for one in traces if one.schedule and one not in tilted],
        }
        found += lambda_claims(tilted, controls, base)
        close = [one for one in tilted if one.why_not_single_steps() is None]
        if close and all(has_one_hidden_layer(one.job) for one in close):
            jobs = run.tables.jobs
            engines = dict(zip(jobs["job"].astype(str), jobs["engine"].astype(str), strict=True))
            with contextlib.suppress(UserError):  # its data has moved: it cannot be trained again
                found += valley_claims(close, engines, base)
    return found


def _where(one: Trace, surroundings: Sequence[Sequence[Trace]]) -> str:
    """What sets a training apart from the others of its run: its loss, or else its settings."""
    settings = [some[0].job.settings for some in surroundings]
    apart = [key for key in settings[0] if len({str(each.get(key)) for each in settings}) > 1]
    if "loss.base" in apart:
        return f" in {BASES[str(one.job['loss.base'])]}"
    apart = [key for key in apart if key not in {*REPLICATES, "loss.kind", *tilting()}]
    return f" at {named({key: one.job.get(key) for key in apart})}" if apart else ""


def _settings(one: Trace, apart: Collection[str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((k, str(v)) for k, v in one.job.settings.items() if k not in apart))


def by_loss(traces: Sequence[Trace]) -> dict[str, list[Trace]]:
    """Trainings by what they measure their errors with, whose curvatures are of other orders."""
    return _together(traces, lambda one: str(one.job["loss.base"]))


def _together(traces: Sequence[Trace], key: Callable[[Trace], K]) -> dict[K, list[Trace]]:
    found: dict[K, list[Trace]] = {}
    for one in traces:
        found.setdefault(key(one), []).append(one)
    return found


def at_the_edge(traces: Sequence[Trace]) -> Table | None:
    """What bounds each optimiser, over its bound, in the second half of its trainings."""
    from tiltcli.plots.curvature import lines_of, one_bound

    known = [one for one in traces if one.curvature is not None]
    if not known or one_bound(known):
        return None
    rows = []
    for name, members in lines_of(known, len(known)).items():
        means = []
        for one in members:
            assert one.curvature is not None
            shares = one.curvature.shares[one.curvature.steps >= one.metrics["step"].max() / 2]
            means += [shares[~np.isnan(shares)].mean()] if not np.isnan(shares).all() else []
        bound, found = members[0].bound, mean_interval(means)
        assert bound is not None
        said = interval(found.low, found.high, digits=3, sign=False)
        rows.append((name, bound.column, bound.formula, f"{found.mean:.3f}", said, str(found.n)))
    header = ("training", "curvature", "bound", "curvature / bound", "95% interval", "seeds")
    return Table("At the edge: mean over the second half of the steps", header, tuple(rows))


def _accuracy(run: Run) -> list[Finding]:
    if not run.judged:
        return []
    try:
        return accuracy_claims(run.comparison())
    except UserError:
        return []  # nothing to pair, and the run's own section says why


JUDGES: tuple[Callable[[Run], list[Finding]], ...] = (_accuracy, curvature_findings)
"""Each looks at a run and returns the findings it has on it, if any."""


def judge(runs: Sequence[Run]) -> list[Judged]:
    """Findings claim by claim as in the paper, then by run; the correction is over all of them."""
    found = [(run.name, finding) for one in JUDGES for run in runs for finding in one(run)]
    claims = list(dict.fromkeys(finding.claim for _, finding in found))
    found.sort(key=lambda one: claims.index(one[1].claim))
    corrected = holm([finding.p for _, finding in found])
    return [Judged(*one, float(p)) for one, p in zip(found, corrected, strict=True)]


def notes(judged: Sequence[Judged], runs: Sequence[Run]) -> list[str]:
    """Return what must be said with the findings, above all of what there is none."""
    several = [run.name for run in runs if run.has_both and not run.judged]
    accuracy = {claim for _, _, claim in CLAIMS}
    said = render(
        "notes.txt",
        judged=judged,
        chosen_from=shlex.quote(several[0]) if several else "",
        fresh=shlex.quote(f"{several[0]}-confirm") if several else "",
        paired=any(run.has_both for run in runs),
        probed=any(run.probed for run in runs),
        of_curvature=any(one.finding.claim not in accuracy for one in judged),
    )
    return said.splitlines()
