"""The general engine: torch autograd, for everything the fused kernel does not cover."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tiltcli.data import Dataset, Part
from tiltcli.engines.base import (
    EXPLODED,
    Block,
    Context,
    Ending,
    Interrupted,
    Snapshot,
    class_weights,
    divergence_note,
    learning_rates,
    schedule_of,
    steps_per_epoch,
)
from tiltcli.initial import initial_parameters
from tiltcli.losses import sample_losses
from tiltcli.models import NETWORKS
from tiltcli.records import Outcome
from tiltcli.schedule import Schedule
from tiltcli.spec import Job

BLOCK_SECONDS = 0.5
BLOCK_ROWS = 1 << 14


def train(job: Job, data: Dataset, context: Context) -> Iterator[Block | Snapshot | Ending]:
    """Train a job; see `tiltcli.engines.base.Engine`.

    Raises:
        Interrupted: when `context.stop()` became true.

    """
    run = _Training(job, data)
    rows: list[tuple[Any, ...]] = []
    flushed, updates = time.perf_counter(), 0
    epochs, every = int(job["train.epochs"]), int(job["train.log_every"])
    outcome, note, ended = Outcome.COMPLETED, "", epochs
    probed = frozenset(context.snapshots)
    for epoch in range(epochs + 1):
        if context.stop():
            raise Interrupted
        logged = epoch % every == 0 or epoch == epochs
        snapshot = run.snapshot(epoch) if epoch in probed else None
        row, worst = run.epoch(epoch, logged, final=epoch == epochs)
        if not np.isfinite(worst) or worst > EXPLODED:
            # The state that showed it is worth a row, logged epoch or not.
            rows.append(row if row is not None else run.measure(epoch))
            outcome, ended, note = Outcome.DIVERGED, epoch, divergence_note(epoch, worst)
            break
        if snapshot is not None:
            yield snapshot
        if row is not None:
            rows.append(row)
        updates += run.per_epoch if epoch < epochs else 0
        if rows and (len(rows) >= BLOCK_ROWS or time.perf_counter() - flushed > BLOCK_SECONDS):
            yield _block(rows, updates)
            rows, flushed, updates = [], time.perf_counter(), 0
    if rows:
        yield _block(rows, updates)
    test_loss, test_accuracy = run.evaluate(run.test)
    yield Ending(outcome, ended, note, test_loss, test_accuracy, run.parameters)


class _Training:
    """One job's network, optimiser and tensors."""

    def __init__(self, job: Job, data: Dataset) -> None:
        self.job = job
        self.dtype = getattr(torch, job["train.dtype"])
        self.base = str(job["loss.base"])
        self.classes = data.classes
        self.train, self.val, self.test = map(self._tensors, (data.train, data.val, data.test))
        self.per_epoch = steps_per_epoch(job, len(data.train))
        self.total_steps = self.per_epoch * int(job["train.epochs"])
        self.schedule: Schedule | None = schedule_of(job, data.classes, self.total_steps)
        parameters = initial_parameters(job, data.train.X.shape[1:], data.classes)
        self.network = NETWORKS[job["model.kind"]](parameters, self.dtype)
        self.parameters = sum(p.numel() for p in self.network.parameters())
        self.optimizer = _optimizer(job, self.network)

    def _tensors(self, part: Part | None) -> tuple[Tensor, Tensor] | None:
        if part is None:
            return None
        return torch.from_numpy(part.X).to(self.dtype), torch.from_numpy(part.y)

    def epoch(self, epoch: int, logged: bool, final: bool) -> tuple[tuple[Any, ...] | None, float]:
        """Measure if logged, then make the epoch's updates; return the row and the worst loss."""
        if self.job["train.batch_size"] == "full":
            return self._full(epoch, logged, final)
        row = self.measure(epoch) if logged else None
        worst = float(row[2]) if row else 0.0
        if not final and np.isfinite(worst) and worst <= EXPLODED:
            worst = max(worst, self._batches(epoch), key=lambda x: np.inf if np.isnan(x) else x)
        return row, worst

    def _full(self, epoch: int, logged: bool, final: bool) -> tuple[tuple[Any, ...] | None, float]:
        """One forward pass gives the metrics and the gradient."""
        assert self.train is not None
        X, y = self.train
        logits = self.network(X)
        each = sample_losses(self.base, logits, y)
        loss = float(each.detach().mean())
        gamma, rate = self._at(epoch)
        weighted = (each * gamma[y]).mean()
        row = None
        if logged:
            right = int((logits.detach().argmax(dim=1) == y).sum())
            row = (
                epoch,
                epoch,
                loss,
                float(weighted.detach()),
                right / len(y),
                *self.evaluate(self.val),
                rate,
            )
        if not final and np.isfinite(loss) and loss <= EXPLODED:
            self._update(weighted, rate)
        return row, loss

    def _batches(self, epoch: int) -> float:
        """Make one pass in batches; the order depends on the seed and the epoch alone."""
        assert self.train is not None
        X, y = self.train
        size = min(int(self.job["train.batch_size"]), len(y))
        seed = [int(self.job["train.seed"]), epoch]
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(y)))
        worst = 0.0
        for number, batch in enumerate(torch.split(order, size)):
            gamma, rate = self._at(epoch * self.per_epoch + number)
            each = sample_losses(self.base, self.network(X[batch]), y[batch])
            loss = float(each.detach().mean())
            if not np.isfinite(loss) or loss > EXPLODED:
                return loss
            worst = max(worst, loss)
            self._update((each * gamma[y[batch]]).mean(), rate)
        return worst

    def snapshot(self, epoch: int) -> Snapshot:
        """Copy of the present weights."""
        step = epoch * self.per_epoch
        steps = np.array([step], dtype=np.int64)
        flat = torch.cat([p.detach().flatten().double() for p in self.network.parameters()])
        gamma = class_weights(self.schedule, steps, self.classes)[0]
        rate = float(learning_rates(self.job, steps, self.total_steps)[0])
        return Snapshot(epoch, step, rate, gamma, flat.numpy())

    def _at(self, step: int) -> tuple[Tensor, float]:
        steps = np.array([step], dtype=np.int64)
        gamma = class_weights(self.schedule, steps, self.classes)[0]
        rate = float(learning_rates(self.job, steps, self.total_steps)[0])
        return torch.from_numpy(gamma).to(self.dtype), rate

    def _update(self, loss: Tensor, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    @torch.no_grad()
    def measure(self, epoch: int) -> tuple[Any, ...]:
        """Row of metrics of the present state."""
        assert self.train is not None
        X, y = self.train
        step = epoch * self.per_epoch
        gamma, rate = self._at(step)
        logits = self.network(X)
        each = sample_losses(self.base, logits, y)
        right = int((logits.argmax(dim=1) == y).sum())
        return (
            epoch,
            step,
            float(each.mean()),
            float((each * gamma[y]).mean()),
            right / len(y),
            *self.evaluate(self.val),
            rate,
        )

    @torch.no_grad()
    def evaluate(self, part: tuple[Tensor, Tensor] | None) -> tuple[float, float]:
        """Static loss and accuracy on a part; NaN without one."""
        if part is None:
            return float("nan"), float("nan")
        X, y = part
        logits = self.network(X)
        right = int((logits.argmax(dim=1) == y).sum())
        return float(sample_losses(self.base, logits, y).mean()), right / len(y)


def _optimizer(job: Job, network: torch.nn.Module) -> torch.optim.Optimizer:
    parameters, rate = list(network.parameters()), float(job["train.lr"])
    decay = float(job["train.weight_decay"])
    if job["train.optimizer"] == "adam":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay)
    if job["train.optimizer"] == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
    return torch.optim.SGD(
        parameters,
        lr=rate,
        momentum=float(job["train.momentum"]),
        nesterov=bool(job.get("train.nesterov", False)),
        weight_decay=decay,
    )


def _block(rows: list[tuple[Any, ...]], updates: int) -> Block:
    values = np.array(rows, dtype=np.float64).T
    steps = [np.array([row[i] for row in rows], dtype=np.int64) for i in (0, 1)]
    return Block(
        epoch=steps[0],
        step=steps[1],
        train_loss=values[2],
        dynamical_loss=values[3],
        train_accuracy=values[4],
        val_loss=values[5],
        val_accuracy=values[6],
        lr=values[7],
        updates=updates,
    )
