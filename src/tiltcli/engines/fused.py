"""The fast engine: full-batch gradient descent of a one-hidden-layer network in one kernel."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from tiltcli.data import Dataset, Part
from tiltcli.engines.base import (
    Array,
    Block,
    Context,
    Ending,
    Interrupted,
    Snapshot,
    class_weights,
    divergence_note,
    learning_rates,
    schedule_of,
)
from tiltcli.engines.kernel import FusedNetwork, Points
from tiltcli.initial import Weights, initial_parameters
from tiltcli.records import Outcome
from tiltcli.schedule import Schedule
from tiltcli.spec import Job

# A block lasts about this long: short enough to stop at once, long enough to cost nothing.
BLOCK_SECONDS = 0.1
FIRST_BLOCK, LARGEST_BLOCK = 1 << 11, 1 << 15


# Jobs of one sweep share their data, and those that differ only in the seed their schedule: small
# jobs would otherwise spend a tenth of their time preparing both anew.


@lru_cache(maxsize=16)
def _points(part: Part, classes: int, dtype: str) -> Points:
    return Points.prepare(part.X, part.y, classes, dtype)


@lru_cache(maxsize=4)
def _gammas(schedule: Schedule | None, begin: int, count: int, classes: int) -> Array:
    steps = np.arange(begin, begin + count, dtype=np.int64)
    gammas = class_weights(schedule, steps, classes)
    gammas.flags.writeable = False
    return gammas


def train(job: Job, data: Dataset, context: Context) -> Iterator[Block | Snapshot | Ending]:
    """Train a job; see `tiltcli.engines.base.Engine`.

    Raises:
        Interrupted: when `context.stop()` became true.

    """
    classes, total = data.classes, int(job["train.epochs"])
    weights = Weights(**initial_parameters(job, data.train.X.shape[1:], classes))
    dtype = str(job["train.dtype"])
    network = FusedNetwork(
        weights.theta,
        int(job["model.width"]),
        _points(data.train, classes, dtype),
        None if data.val is None else _points(data.val, classes, dtype),
        classes,
    )
    schedule = schedule_of(job, classes, total)
    every = int(job["train.log_every"])
    outcome, note, ended = Outcome.COMPLETED, "", total
    begin, size = 0, FIRST_BLOCK
    snapshots = iter(context.snapshots)
    wanted = next(snapshots, None)
    # Steps 0 … total are looked at; the last is only measured, no update follows it.
    while begin <= total:
        if context.stop():
            raise Interrupted
        theta = None
        if begin == wanted:
            theta, wanted = network.theta.astype(np.float64), next(snapshots, None)
        # A block ends before the epoch of the next snapshot, so that its weights can be taken.
        end = min(begin + size, total + 1, total + 1 if wanted is None else wanted)
        steps = np.arange(begin, end, dtype=np.int64)
        record = (steps % every == 0) | (steps == total)
        rates = learning_rates(job, steps, total)
        gammas = _gammas(schedule, begin, len(steps), classes)
        last = int(steps[-1]) == total
        started = time.perf_counter()
        result = network.run(gammas, rates, record, update_last=not last)
        taken = time.perf_counter() - started
        if result.diverged_at is not None:
            record[result.diverged_at] = True
            record[result.diverged_at + 1 :] = False
            last = True
        logged = steps[record]
        empty = np.full(len(logged), np.nan)
        yield Block(
            epoch=logged,
            step=logged,
            train_loss=result.train_loss,
            dynamical_loss=result.dynamical_loss,
            train_accuracy=result.train_correct / len(data.train),
            val_loss=result.val_loss,
            val_accuracy=result.val_correct / len(data.val) if data.val else empty,
            lr=rates[record],
            updates=len(steps) - last,
        )
        if theta is not None and result.diverged_at != 0:
            yield Snapshot(begin, begin, float(rates[0]), gammas[0], theta)
        if result.diverged_at is not None:
            outcome, ended = Outcome.DIVERGED, int(logged[-1])
            note = divergence_note(ended, float(result.train_loss[-1]))
            break
        begin += len(steps)
        if taken < BLOCK_SECONDS / 2:
            size = min(2 * size, LARGEST_BLOCK)
        elif taken > 2 * BLOCK_SECONDS:
            size = max(size // 2, 1)
    test_loss = test_accuracy = float("nan")
    if data.test is not None:
        test_loss, correct = network.evaluate(_points(data.test, classes, dtype))
        test_accuracy = correct / len(data.test)
    yield Ending(outcome, ended, note, test_loss, test_accuracy, len(network.theta))
