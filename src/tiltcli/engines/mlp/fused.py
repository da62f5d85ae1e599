"""The fast engine: full-batch gradient descent of a one-hidden-layer network in one kernel."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from tiltcli.data import Dataset, Part
from tiltcli.engines.base import (
    Array,
    Block,
    Context,
    Ending,
    Interrupted,
    Snapshot,
    Whole,
    class_weights,
    divergence_note,
    rates_at,
    schedule_of,
)
from tiltcli.engines.mlp.kernel import FusedNetwork, Points
from tiltcli.errors import Outcome
from tiltcli.grid import Job
from tiltcli.networks.initial import Weights, initial_parameters
from tiltcli.schedule import Schedule

Flags = npt.NDArray[np.bool_]

# A block lasts about this long: short enough to stop at once, long enough to cost nothing.
BLOCK_SECONDS = 0.1
FIRST_BLOCK, LARGEST_BLOCK = 1 << 11, 1 << 15


# Jobs of one sweep share their data, and those that differ only in the seed their course: small
# jobs would otherwise spend a tenth of their time preparing both anew.


@lru_cache(maxsize=16)
def _points(part: Part, classes: int, dtype: str) -> Points:
    return Points.prepare(part.X, part.y, classes, dtype)


@dataclass(frozen=True)
class _Course:
    """What decides the steps of a job besides data and weights; the last of them is `total`."""

    schedule: Schedule | None
    classes: int
    rate: float
    factors: tuple[tuple[float, float], ...]
    every: int
    total: int

    @staticmethod
    def of(job: Job, classes: int) -> _Course:
        total = int(job["train.epochs"])
        return _Course(
            schedule_of(job, classes, total),
            classes,
            float(job["train.lr"]),
            tuple((x, y) for x, y in job.get("train.lr_schedule") or ()),
            int(job["train.log_every"]),
            total,
        )


class _Stretch:
    """Consecutive steps of a course; shared by jobs, so that no array can be written to."""

    def __init__(self, steps: Whole, gammas: Array, rates: Array, record: Flags) -> None:
        self.steps, self.gammas, self.rates, self.record = steps, gammas, rates, record
        self.logged, self.logged_rates = steps[record], rates[record]
        for array in (steps, gammas, rates, record, self.logged, self.logged_rates):
            array.flags.writeable = False

    def until(self, last: int) -> _Stretch:
        """Leave out what comes after a step, and record that step."""
        record = self.record[: last + 1].copy()
        record[last] = True
        size = len(record)
        return _Stretch(self.steps[:size], self.gammas[:size], self.rates[:size], record)


@lru_cache(maxsize=4)
def _stretch(course: _Course, begin: int, end: int) -> _Stretch:
    steps = np.arange(begin, end, dtype=np.int64)
    return _Stretch(
        steps,
        class_weights(course.schedule, steps, course.classes),
        rates_at(course.rate, course.factors, steps, course.total),
        (steps % course.every == 0) | (steps == course.total),
    )


def train(job: Job, data: Dataset, context: Context) -> Iterator[Block | Snapshot | Ending]:
    """Train a job; see `tiltcli.engines.base.Engine`.

    Raises:
        Interrupted: when `context.stop()` became true.

    """
    classes = data.classes
    course = _Course.of(job, classes)
    total = course.total
    weights = Weights(**initial_parameters(job, data.train.X.shape[1:], classes))
    dtype = str(job["train.dtype"])
    network = FusedNetwork(
        weights.theta,
        int(job["model.width"]),
        _points(data.train, classes, dtype),
        None if data.val is None else _points(data.val, classes, dtype),
        classes,
    )
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
        stretch = _stretch(course, begin, end)
        last = end > total
        started = time.perf_counter()
        result = network.run(stretch.gammas, stretch.rates, stretch.record, update_last=not last)
        taken = time.perf_counter() - started
        if result.diverged_at is not None:
            stretch = stretch.until(result.diverged_at)
            last = True
        yield Block(
            epoch=stretch.logged,
            step=stretch.logged,
            train_loss=result.train_loss,
            dynamical_loss=result.dynamical_loss,
            train_accuracy=result.train_correct / len(data.train),
            val_loss=result.val_loss,
            # Without validation points the loss is NaN at every step.
            val_accuracy=result.val_correct / len(data.val) if data.val else result.val_loss,
            lr=stretch.logged_rates,
            updates=end - begin - last,
        )
        if theta is not None and result.diverged_at != 0:
            yield Snapshot(begin, begin, float(stretch.rates[0]), stretch.gammas[0], theta)
        if result.diverged_at is not None:
            outcome, ended = Outcome.DIVERGED, int(stretch.logged[-1])
            note = divergence_note(ended, float(result.train_loss[-1]))
            break
        begin = end
        if taken < BLOCK_SECONDS / 2:
            size = min(2 * size, LARGEST_BLOCK)
        elif taken > 2 * BLOCK_SECONDS:
            size = max(size // 2, 1)
    test_loss = test_accuracy = float("nan")
    if data.test is not None:
        test_loss, correct = network.evaluate(_points(data.test, classes, dtype))
        test_accuracy = correct / len(data.test)
    yield Ending(outcome, ended, note, test_loss, test_accuracy, network.parameters)
