"""The fast engine: a multilayer perceptron trained in one compiled kernel."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tiltcli.data import Dataset, Part
from tiltcli.engines.base import (
    Block,
    Context,
    Ending,
    Interrupted,
    Snapshot,
    Trail,
    balance_of,
    class_weights,
    divergence_note,
    rates_at,
    schedule_of,
    scores,
    steps_per_epoch,
)
from tiltcli.engines.mlp.kernel import Batches, FusedNetwork, Steps
from tiltcli.engines.mlp.layout import Points
from tiltcli.engines.mlp.optimisers import Optimiser
from tiltcli.errors import Outcome
from tiltcli.grid import Job
from tiltcli.networks.initial import depth_of, initial_parameters
from tiltcli.schedule import Schedule

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64, Int64


# A block lasts about this long: short enough to stop at once, long enough to cost nothing.
BLOCK_SECONDS = 0.1
FIRST_BLOCK, LARGEST_BLOCK = 1 << 11, 1 << 15
TRAIL_BYTES = 1 << 21
"""Parameters of a trail yielded at once: few wait in memory, and in the cache."""
FIRST_PRODUCTS = 1 << 31
"""Multiplications in the first block at most: about BLOCK_SECONDS of them."""


# Jobs of one sweep share their data, and those that differ only in the seed their schedule: small
# jobs would otherwise spend a tenth of their time preparing both anew.


def _points(part: Part, classes: int, dtype: str, depth: int) -> Points:
    return part.layout(
        ("fused", classes, dtype, depth),
        lambda: Points.prepare(part.X, part.y, classes, dtype, part.groups, depth),
    )


@dataclass(frozen=True)
class _Schedules:
    """What decides Γ, learning rate and logging of a job's steps; the last of them is `total`."""

    gamma: Schedule | None
    classes: int
    balance: tuple[float, ...]
    rate: float
    factors: tuple[tuple[float, float], ...]
    every: int
    per_epoch: int
    total: int

    @staticmethod
    def of(job: Job, data: Dataset) -> _Schedules:
        per_epoch = steps_per_epoch(job, len(data.train))
        total = int(job["train.epochs"]) * per_epoch
        return _Schedules(
            schedule_of(job, data.classes, total),
            data.classes,
            balance_of(job, data),
            float(job["train.lr"]),
            tuple((x, y) for x, y in job.get("train.lr_schedule") or ()),
            int(job["train.log_every"]),
            per_epoch,
            total,
        )


class _Slice:
    """Consecutive steps of schedules; shared by jobs, so that no array can be written to."""

    def __init__(
        self,
        steps: Int64[np.ndarray, " steps"],
        gammas: Float64[np.ndarray, "steps groups"],
        rates: Float64[np.ndarray, " steps"],
        record: Bool[np.ndarray, " steps"],
    ) -> None:
        self.steps, self.gammas, self.rates, self.record = steps, gammas, rates, record
        self.logged, self.logged_rates = steps[record], rates[record]
        for array in (steps, gammas, rates, record, self.logged, self.logged_rates):
            array.flags.writeable = False

    def until(self, last: int, recorded: bool) -> _Slice:
        """Leave out what comes after a step, and say whether that step is recorded."""
        record = self.record[: last + 1].copy()
        record[last] = recorded
        size = len(record)
        return _Slice(self.steps[:size], self.gammas[:size], self.rates[:size], record)


@lru_cache(maxsize=4)
def _slice(schedules: _Schedules, begin: int, end: int) -> _Slice:
    steps = np.arange(begin, end, dtype=np.int64)
    epochs, places = np.divmod(steps, schedules.per_epoch)
    logged = (places == 0) & (epochs % schedules.every == 0)
    return _Slice(
        steps,
        class_weights(schedules.gamma, steps, schedules.classes, schedules.balance),
        rates_at(schedules.rate, schedules.factors, steps, schedules.total),
        logged | (steps == schedules.total),
    )


def network_of(
    job: Job, data: Dataset, theta: Float64[np.ndarray, " parameters"] | None = None
) -> FusedNetwork:
    """Return a job's network with its optimiser at its first step; `theta`: not its own start."""
    classes, depth = data.classes, depth_of(job)
    if theta is None:
        start = initial_parameters(job, data.train.X.shape[1:], classes)
        theta = np.concatenate([part.ravel() for part in start.values()])
    dtype, size = str(job["train.dtype"]), job["train.batch_size"]
    return FusedNetwork(
        theta,
        int(job["model.width"]),
        _points(data.train, classes, dtype, depth),
        None if data.val is None else _points(data.val, classes, dtype, depth),
        classes,
        depth=depth,
        base=str(job["loss.base"]),
        optimiser=Optimiser(
            str(job["train.optimizer"]),
            float(job.get("train.momentum", 0.0)),
            bool(job.get("train.nesterov", False)),
            float(job["train.weight_decay"]),
        ),
        batches=None if size == "full" else Batches(int(size), int(job["train.seed"])),
        recalls=bool(job.get("train.recall")),
    )


def train(job: Job, data: Dataset, context: Context) -> Iterator[Block | Snapshot | Trail | Ending]:
    """Yield what a training has to tell; see `tiltcli.engines.base.Engine`.

    Raises:
        Interrupted: when `context.stop()` became true.

    """
    schedules = _Schedules.of(job, data)
    total, per_epoch = schedules.total, schedules.per_epoch
    network, recalls = network_of(job, data), bool(job.get("train.recall"))
    outcome, note, ended = Outcome.COMPLETED, "", int(job["train.epochs"])
    samples = -(-len(data.train) // per_epoch)
    begin, size = 0, min(FIRST_BLOCK, max(1, FIRST_PRODUCTS // (3 * samples * network.parameters)))
    snapshots = iter(context.snapshots)
    wanted = next(snapshots, None)
    # Steps 0 … total are looked at; the last is only measured, no update follows it.
    while begin <= total:
        if context.stop():
            raise Interrupted
        theta = adam = None
        if wanted is not None and begin == wanted * per_epoch:
            theta, wanted = network.theta.astype(np.float64), next(snapshots, None)
            adam = network.preconditioner
        keep = context.trail and wanted is not None
        most = max(1, TRAIL_BYTES // (8 * network.parameters)) if keep else size
        # A block ends before the epoch of the next snapshot, so that its weights can be taken.
        ends = total + 1, total + 1 if wanted is None else wanted * per_epoch
        end = min(begin + min(size, most), *ends)
        part = _slice(schedules, begin, end)
        last = end > total
        started = time.perf_counter()
        result = network.run(part.gammas, part.rates, part.record, not last, keep)
        taken = time.perf_counter() - started
        diverged = result.diverged_at
        if diverged is not None:
            part, result = _ended(network, data, part, result, schedules)
            last = True
        learnt = scores(result.train_correct, data.train)
        val = scores(result.val_correct, data.val)
        yield Block(
            epoch=part.logged // per_epoch,
            step=part.logged,
            train_loss=result.train_loss,
            dynamical_loss=result.dynamical_loss,
            train_accuracy=learnt.plain,
            train_balanced_accuracy=learnt.balanced,
            val_loss=result.val_loss,
            val_accuracy=val.plain,
            val_balanced_accuracy=val.balanced,
            lr=part.logged_rates,
            updates=len(part.steps) - last if diverged is None else diverged,
            recall=np.stack([learnt.recall, val.recall], axis=1) if recalls else None,
        )
        if theta is not None and diverged != 0:
            rate, gamma = float(part.rates[0]), part.gammas[0]
            yield Snapshot(begin // per_epoch, begin, rate, gamma, theta, adam)
        if result.trail is not None:
            yield result.trail
        if diverged is not None:
            outcome, ended = Outcome.DIVERGED, (begin + diverged) // per_epoch
            note = divergence_note(ended, result.diverged_loss)
            break
        begin = end
        if taken < BLOCK_SECONDS / 2:
            size = min(2 * size, LARGEST_BLOCK)
        elif taken > 2 * BLOCK_SECONDS:
            size = max(size // 2, 1)
    test_loss, right = float("nan"), np.zeros(data.classes, np.int64)
    if data.test is not None:
        points = _points(data.test, data.classes, str(job["train.dtype"]), depth_of(job))
        test_loss, right = network.evaluate(points)
    test = scores(right, data.test)
    yield Ending(
        *(outcome, ended, note, test_loss, float(test.plain), float(test.balanced)),
        network.parameters,
        test_recall=test.recall if recalls else None,
    )


def _ended(
    network: FusedNetwork, data: Dataset, part: _Slice, result: Steps, schedules: _Schedules
) -> tuple[_Slice, Steps]:
    """Cut a slice at the step where it diverged, and see that its epoch has a row."""
    at = result.diverged_at
    assert at is not None
    if len(result.train_loss) > np.count_nonzero(part.record[: at + 1]) or part.record[at]:
        return part.until(at, True), result
    # A batch showed it: the state before it is measured, unless this epoch's start was.
    if part.steps[at] // schedules.per_epoch % schedules.every == 0:
        return part.until(at, False), result
    train, val = (network.measure(points, part.gammas[at]) for points in network.points)
    longer = result._replace(
        train_loss=np.append(result.train_loss, train.loss),
        dynamical_loss=np.append(result.dynamical_loss, train.weighted),
        train_correct=np.vstack([result.train_correct, train.right]),
        val_loss=np.append(result.val_loss, val.loss),
        val_correct=np.vstack([result.val_correct, val.right]),
    )
    return part.until(at, True), longer
