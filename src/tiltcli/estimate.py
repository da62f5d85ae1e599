"""How long jobs will take, measured on this machine by training a moment of each kind."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from tiltcli.data import Dataset, dataset_of
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


def estimate_seconds(
    jobs: Sequence[Job], engines: Mapping[str, str], workers: int, device: str = "auto"
) -> float:
    """Estimate the wall time of jobs, seconds.

    Jobs that differ only in what costs nothing (amplitude, period, seed) share one trial.

    Args:
        jobs: what is to be trained.
        engines: engine of each job, by id.
        workers: jobs trained at once.
        device: where torch trains.

    """
    costs: dict[tuple[Any, ...], tuple[float, float]] = {}
    seconds = 0.0
    for job in jobs:
        names = (k for k in job.settings if k.startswith("data.") and k != "data.seed")
        key = (engines[job.id], *map(job.get, _MATTERS), *(str(job[k]) for k in names))
        data = dataset_of(job)
        if key not in costs:
            costs[key] = _costs(job, data, engines[job.id], device)
        update, row = costs[key]
        rows = int(job["train.epochs"]) // int(job["train.log_every"]) + 1
        seconds += total_steps(job, len(data.train)) * update + rows * row
    return seconds / max(1, min(workers, len(jobs)))


def _costs(job: Job, data: Dataset, engine: str, device: str) -> tuple[float, float]:
    """Seconds of an update, and those of a row of metrics that come on top."""
    if engine == "torch":
        from tiltcli.engines.trial import torch_costs

        return torch_costs(job, data, device)
    _trial(job, data, engine)  # compiles, fills caches
    return 1 / _trial(job, data, engine), 0.0


def _trial(job: Job, data: Dataset, engine: str) -> float:
    """Steps per second of a job, from a moment of its training."""
    started = time.perf_counter()
    steps = 0
    try:
        context = Context(lambda: time.perf_counter() - started > TRIAL_SECONDS)
        for item in load_engine(engine)(job, data, context):
            if isinstance(item, Block):
                steps += item.updates
    except Interrupted:
        pass
    return max(steps, 1) / (time.perf_counter() - started)
