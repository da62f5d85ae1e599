"""What a report says of runs that were probed: findings on curvature, and which figures."""

from __future__ import annotations

from collections.abc import Sequence

from tiltcli.analysis.traces import Trace, jobs_of, trace_of
from tiltcli.errors import Outcome, UserError
from tiltcli.evaluation.cells import REPLICATES
from tiltcli.evaluation.claims import Finding
from tiltcli.evaluation.claims.curvature_claims import instability_claims, lambda_claims
from tiltcli.evaluation.claims.valley_claims import valley_claims
from tiltcli.networks.initial import has_one_hidden_layer
from tiltcli.report.loaded_runs import Run

MOST_JOBS = 64
"""Probed jobs of a run up to which they are judged: each is looked at step by step."""


def probed_traces(run: Run) -> list[Trace]:
    """Completed trainings of a run that were probed.

    Returns:
        none where there are too many to be looked at one by one, where their oscillations differ
        in more than the seed, or where the run's grid or data no longer lead to them.

    """
    jobs = run.tables.jobs
    done = jobs[jobs["job"].isin(run.tables.probes["job"]) & (jobs["outcome"] == Outcome.COMPLETED)]
    if done.empty or len(done) > MOST_JOBS:
        return []
    try:
        return [trace_of(run.tables, job) for job in jobs_of(run.folder, list(done["job"]))]
    except (UserError, OSError):
        return []


def curvature_findings(run: Run) -> list[Finding]:
    """Return the findings of a run over several seeds; none without probes, or of one training.

    Valleys need trainings to be made again: they are judged where single steps were kept, which
    is where a run is meant to be looked at closely.
    """
    traces = probed_traces(run)
    dynamical = [one for one in traces if one.schedule]
    if len(dynamical) < 2 or not _one_setting(dynamical):
        return []
    found = instability_claims(dynamical) + lambda_claims(traces)
    close = [one for one in dynamical if one.why_not_single_steps() is None]
    if close and all(has_one_hidden_layer(one.job) for one in close):
        jobs = run.tables.jobs
        engines = dict(zip(jobs["job"].astype(str), jobs["engine"].astype(str), strict=True))
        try:
            found += valley_claims(close, engines)
        except UserError:
            return found  # its data has moved, so it cannot be trained again
    return found


def _one_setting(traces: Sequence[Trace]) -> bool:
    apart = {*REPLICATES}
    settings = {
        tuple(sorted((k, str(v)) for k, v in one.job.settings.items() if k not in apart))
        for one in traces
    }
    return len(settings) == 1
