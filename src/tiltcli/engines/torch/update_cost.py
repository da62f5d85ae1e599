"""What training in torch costs, from a few updates and a measurement on a part of the data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import torch

from tiltcli.data import Dataset, Part
from tiltcli.engines.torch.devices import open_device
from tiltcli.engines.torch.state import Training
from tiltcli.grid import Job

TRIAL_SECONDS = 0.15
MOST_SAMPLES = 512


class Costs(NamedTuple):
    """Seconds of an optimiser update, and of a row of metrics."""

    update: float
    row: float


def torch_costs(job: Job, data: Dataset, device: str = "auto") -> Costs:
    """Return the costs on one thread, as a worker has; of few samples, counted up to all."""
    size = job["train.batch_size"]
    batch = len(data.train) if size == "full" else min(int(size), len(data.train))
    taken = min(batch, MOST_SAMPLES)
    part = Part(data.train.X[:taken], data.train.y[:taken], data.train.group[:taken])
    with one_thread():
        small = replace(data, train=part, val=None, test=None)
        run = Training(job, small, open_device(device), lambda: False)

        def update() -> None:
            run.epoch = run.batch = 0  # the first update over and over: never beyond the end
            run.advance(logged=False)

        update_seconds = _least(update) * batch / taken
        measure_seconds = _least(run.measure) / taken
    # Full batch, the gradient's own forward pass measures the training part; but not that of a
    # user's network, which may be another one while it trains.
    measured = (0 if size == "full" and run.dice is None else len(data.train)) + len(data.val or ())
    return Costs(update_seconds, measure_seconds * measured)


def _least(work: Callable[[], object]) -> float:
    """Least seconds of a few calls, after one that is not counted."""
    work()
    best, end = float("inf"), time.perf_counter() + TRIAL_SECONDS
    while True:
        started = time.perf_counter()
        work()
        now = time.perf_counter()
        best = min(best, now - started)
        if now > end:
            return best


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold torch to one thread, as the workers do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
