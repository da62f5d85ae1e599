"""How long jobs will take, measured on this machine by training a moment of each kind."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tiltcli.data import Dataset, Part, dataset_of
from tiltcli.engines import Block, Context, Interrupted, load_engine
from tiltcli.engines.base import total_steps
from tiltcli.grid import Job, ProbeSettings
from tiltcli.grid.jobs import texts
from tiltcli.grid.settings import deciding

TRIAL_SECONDS = 0.15
TRIALS = 3
MOST_SAMPLES = 1 << 18
"""Of a larger full batch a part is timed: a step costs as much as it has samples."""


@dataclass
class Kind:
    """Jobs that cost alike."""

    engine: str  # what trains them
    example: Job  # one of them
    update: float  # seconds of an update of one of them, on one core
    row: float  # seconds of a row of metrics that come on top
    probe: float  # seconds of a probe
    jobs: int = 0  # how many they are
    seconds: float = 0.0  # what all of them take, on one core

    @property
    def speed(self) -> float:
        """Steps per second of one of them, on one core."""
        return 1 / self.update


@dataclass(frozen=True)
class Estimate:
    """What jobs are expected to take."""

    seconds: float  # wall time of all
    probes: int  # how many probes are in it
    probe_seconds: float  # processor time of all probes
    kinds: tuple[Kind, ...]  # jobs that cost alike, in the order of the grid


def estimate(
    jobs: Sequence[Job],
    engines: Mapping[str, str],
    workers: int,
    device: str = "auto",
    probe: ProbeSettings | None = None,
) -> Estimate:
    """Estimate what jobs take; those that differ only in what costs nothing share a trial."""
    kinds: dict[tuple[Any, ...], Kind] = {}
    training = probing = longest = 0.0
    probes = 0
    alike = dict.fromkeys((*deciding("cost"), *(deciding("probe") if probe else ())))
    for job in jobs:
        key = (engines[job.id], *texts(job, tuple(alike)))
        data = dataset_of(job)
        if key not in kinds:
            each = 0.0
            if probe is not None:
                from tiltcli.curvature.probe_cost import probe_seconds

                each = probe_seconds(job, data, probe, engines[job.id])
            costs = _costs(job, data, engines[job.id], device)
            kinds[key] = Kind(engines[job.id], job, *costs, each)
        kind, epochs = kinds[key], int(job["train.epochs"])
        rows = epochs // int(job["train.log_every"]) + 1
        seconds = total_steps(job, len(data.train)) * kind.update + rows * kind.row
        kind.jobs += 1
        kind.seconds += seconds
        due = len(probe.due(epochs)) if probe is not None else 0
        longest = max(longest, seconds)
        training += seconds
        probes += due
        probing += due * kind.probe
    # Probes are made by threads beside a training, so that one job too has all cores for them.
    wall = training / max(1, min(workers, len(jobs)))
    if probes:
        wall = max(longest, (training + probing) / workers)
    return Estimate(wall, probes, probing, tuple(kinds.values()))


def _costs(job: Job, data: Dataset, engine: str, device: str) -> tuple[float, float]:
    """Seconds of an update, and those of a row of metrics that come on top."""
    if engine == "torch":
        from tiltcli.engines.torch.update_cost import torch_costs

        return torch_costs(job, data, device)
    share = len(data.train) // MOST_SAMPLES if job["train.batch_size"] == "full" else 0
    if share > 1:  # every so manieth sample, of all classes
        data = replace(
            data,
            train=_thinned(data.train, share),
            val=data.val and _thinned(data.val, share),
            test=data.test and _thinned(data.test, share),
        )
    # The first ones may be compiling, and be stopped at that.
    return max(share, 1) / max(_trial(job, data, engine) for _ in range(TRIALS)), 0.0


def _thinned(part: Part, share: int) -> Part:
    groups = None if part.groups is None else part.groups[::share].copy()
    return Part(part.X[::share].copy(), part.y[::share].copy(), groups)


def _trial(job: Job, data: Dataset, engine: str) -> float:
    """Return a job's steps per second, the best of some moments: other work slows the rest."""
    begun = time.perf_counter()
    train, best = load_engine(engine), 0.0
    context = Context(lambda: time.perf_counter() - begun > TRIAL_SECONDS)
    while not best or not context.stop():
        started, steps = time.perf_counter(), 0
        with contextlib.suppress(Interrupted):
            for item in train(job, data, context):
                if isinstance(item, Block):
                    steps += item.updates
        best = max(best, max(steps, 1) / (time.perf_counter() - started))
    return best
