"""How long jobs will take, measured on this machine by training a moment of each kind."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from tiltcli.data import dataset_of
from tiltcli.engines import Block, Context, Interrupted, load_engine
from tiltcli.runner import total_steps
from tiltcli.spec import Job

TRIAL_SECONDS = 0.15
_MATTERS = (
    "model.kind",
    "model.width",
    "train.dtype",
    "train.optimizer",
    "train.batch_size",
    "train.log_every",
    "loss.base",
)


def estimate_seconds(jobs: Sequence[Job], engines: Mapping[str, str], workers: int) -> float:
    """Estimate the wall time of jobs, seconds.

    Jobs that differ only in what costs nothing (amplitude, period, seed) share one trial.
    """
    rates: dict[tuple[Any, ...], float] = {}
    seconds = 0.0
    for job in jobs:
        data = tuple(
            str(v) for k, v in job.settings.items() if k.startswith("data.") and k != "data.seed"
        )
        key = (engines[job.id], *map(job.get, _MATTERS), data)
        if key not in rates:
            _trial(job, engines[job.id])  # compiles, fills caches
            rates[key] = _trial(job, engines[job.id])
        seconds += total_steps(job, len(dataset_of(job).train)) / rates[key]
    return seconds / max(1, min(workers, len(jobs)))


def _trial(job: Job, engine: str) -> float:
    """Steps per second of a job, from a moment of its training."""
    started = time.perf_counter()
    steps = 0
    try:
        context = Context(lambda: time.perf_counter() - started > TRIAL_SECONDS)
        for item in load_engine(engine)(job, dataset_of(job), context):
            if isinstance(item, Block):
                steps += item.updates
    except Interrupted:
        pass
    return max(steps, 1) / (time.perf_counter() - started)
