"""One job in torch: its network, optimiser and data, and how far its training is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tiltcli.data import Dataset, Part
from tiltcli.engines.base import (
    EXPLODED,
    Array,
    Interrupted,
    Scores,
    Snapshot,
    adam_diagonal,
    balance_of,
    class_weights,
    learning_rates,
    schedule_of,
    scores,
    steps_per_epoch,
)
from tiltcli.grid import Job
from tiltcli.losses import sample_losses
from tiltcli.networks.initial import is_own
from tiltcli.networks.models import Dice, Myrtle5, network_of, tensors_of

PIECE_BYTES = {"cpu": 4 << 20, "cuda": 1 << 30}
"""Size of one layer's output for which a batch goes through the network as a whole; larger ones go
in pieces whose gradients are added up. On a processor a layer's output then stays in the cache."""

USUAL_WIDTH = 256
"""Of a layer of a user's network, which is not known, for the size of pieces."""

PLAN_STEPS = 1024
"""Steps whose class weights and learning rates are made at once."""


class Row(NamedTuple):
    """Metrics of one state; columns as in the metrics table, recalls as in `Block`, (2, C)."""

    epoch: int
    step: int
    train_loss: float
    dynamical_loss: float
    train_accuracy: float
    train_balanced_accuracy: float
    val_loss: float
    val_accuracy: float
    val_balanced_accuracy: float
    lr: float
    recall: Array


class Samples(NamedTuple):
    """Inputs with samples along the first axis (pictures with channels last), labels and groups.

    For a user's network pictures are as it takes them, channels first.
    """

    X: Tensor
    y: Tensor
    group: Tensor

    @property
    def nbytes(self) -> int:
        """Memory that the tensors take, bytes."""
        return int(self.X.nbytes + self.y.nbytes)


class Sums(NamedTuple):
    """Sums over samples: static loss, weighted loss, and right ones by class, (C,)."""

    loss: float
    weighted: float
    right: Tensor


class Training:
    """A job under way. What changes in it: `network`, `optimizer`, `dice`, `epoch` and `batch`.

    `stop` is asked before every piece of work; true ends it with `Interrupted`, only ever between
    updates, so that these belong together whenever it comes.
    """

    def __init__(
        self, job: Job, data: Dataset, device: torch.device, stop: Callable[[], bool]
    ) -> None:
        self.job, self.data = job, data
        self.device = device
        self.stop = stop
        self.dtype: torch.dtype = getattr(torch, job["train.dtype"])
        self.base = str(job["loss.base"])
        self.classes = data.classes
        last = not is_own(job)  # whose code may count on tensors as torch usually has them
        self.train = _tensors(data.train, self.dtype, device, last)
        self.val, self.test = (
            None if part is None else _tensors(part, self.dtype, device, last)
            for part in (data.val, data.test)
        )
        self.epochs = int(job["train.epochs"])
        self.full = job["train.batch_size"] == "full"
        self.batch_size = (
            len(data.train) if self.full else min(int(job["train.batch_size"]), len(data.train))
        )
        self.per_epoch = steps_per_epoch(job, len(data.train))
        self.total_steps = self.per_epoch * self.epochs
        self.schedule = schedule_of(job, data.classes, self.total_steps)
        self.balance = balance_of(job, data)
        sample = data.sample_shape
        self.dice = Dice(device) if is_own(job) else None
        self.network = network_of(job, sample, data.classes, self.dtype, self.dice)
        self.logits, self.grain = _ready(self.network, sample, device, self.dice is not None)
        self.trained = [*tensors_of(self.network)[0].values()]
        self.parameters = sum(p.numel() for p in self.trained)
        self.optimizer = _optimizer(job, self.trained)
        places = math.prod(sample[1:]) if len(sample) == 3 else 1
        per_sample = places * int(job["model.width"] or USUAL_WIDTH) * self.dtype.itemsize
        self.piece = max(self.grain, PIECE_BYTES[device.type] // per_sample)
        self.epoch, self.batch = 0, 0
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))
        self._plan: tuple[int, Tensor, Array] = (-1, torch.empty(0), np.empty(0))

    @property
    def step(self) -> int:
        """Updates made so far."""
        return self.epoch * self.per_epoch + self.batch

    @property
    def done(self) -> bool:
        """Whether all updates are made."""
        return self.epoch >= self.epochs

    def advance(self, logged: bool) -> tuple[Row | None, float]:
        """Return the metrics of a logged state and the largest static loss seen, after an update.

        That loss is of the batch or of the training set; none is made from where it is not sound.
        """
        if self.full and self.dice is None:
            return self._full(logged)
        row = self.measure() if logged else None
        loss = row.train_loss if row else 0.0
        if not self.done and sound(loss):
            size, rows = self.batch_size, None
            if not self.full:
                rows = self._epoch_order()[self.batch * size : (self.batch + 1) * size]
            count = len(self.train.y) if rows is None else len(rows)
            with nullcontext() if self.dice is None else self.dice.cast():
                found = self._differentiate(rows).loss / count
            if sound(found):
                self._update()
            loss = max(loss, found, key=lambda x: math.inf if math.isnan(x) else x)
        return row, loss

    def _full(self, logged: bool) -> tuple[Row | None, float]:
        """One forward pass gives the metrics and the gradient."""
        if self.done:
            final = self.measure()
            return final, final.train_loss
        sums = self._differentiate(None)
        loss = sums.loss / len(self.train.y)
        row = self._row(sums) if logged else None
        if sound(loss):
            self._update()
        return row, loss

    def _differentiate(self, rows: Tensor | None) -> Sums:
        """Return sums over a batch (None: all samples), whose gradient of F the network then has.

        F = (1/P) Σ_j Γ_{y_j}(t) L_j, piece by piece.
        """
        gamma, _ = self._pace()
        self.optimizer.zero_grad(set_to_none=True)
        loss, weighted, right = 0.0, 0.0, torch.zeros(self.classes, dtype=torch.int64)
        count = len(self.train.y) if rows is None else len(rows)
        self.network.train()
        # In pieces a batch norm would see other means; a user's network gets its batch whole.
        piece = self.piece if self.dice is None else count
        for X, y, group in self._pieces(self.train, rows, piece):
            logits = self.logits(X)
            each = sample_losses(self.base, logits, y)
            total = (each if gamma is None else each * gamma[group]).sum()
            (total / count).backward()  # type: ignore[no-untyped-call]
            loss += float(each.detach().sum(dtype=torch.float64))
            if rows is None:
                weighted += _total(each.detach(), gamma, group)
                right += self._right(logits.detach(), y)
        return Sums(loss, weighted, right)

    def _right(self, logits: Tensor, y: Tensor) -> Tensor:
        # A NaN is no guess, nor is minus infinity: as in the compiled kernel.
        best, guess = logits.nan_to_num(-math.inf, math.inf, -math.inf).max(dim=1)
        hits = y[(guess == y) & (best > -math.inf)]
        return torch.bincount(hits, minlength=self.classes).cpu()

    def _update(self) -> None:
        _, rate = self._pace()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.batch += 1
        if self.batch == self.per_epoch:
            self.epoch, self.batch = self.epoch + 1, 0

    def _pieces(self, samples: Samples, rows: Tensor | None, piece: int) -> Iterator[Samples]:
        """Split all samples, or the chosen ones, into pieces of about equal size."""
        count = len(samples.y) if rows is None else len(rows)
        pieces = -(-count // piece)
        size = -(-count // (pieces * self.grain)) * self.grain
        for begin in range(0, count, size):
            if self.stop():
                raise Interrupted
            if rows is None:
                some = [array[begin : begin + size] for array in samples]
            else:
                some = [array.index_select(0, rows[begin : begin + size]) for array in samples]
            X, y, group = some
            # Channels lie last in memory; torch still counts them second.
            last = X.ndim == 4 and self.dice is None
            yield Samples(X.permute(0, 3, 1, 2) if last else X, y, group)

    def _epoch_order(self) -> Tensor:
        """Order of the samples in this epoch; it depends on the seed and the epoch alone."""
        if self._order[0] != self.epoch:
            seed = [int(self.job["train.seed"]), self.epoch]
            order = np.random.default_rng(seed).permutation(len(self.train.y))
            self._order = self.epoch, torch.from_numpy(order).to(self.device)
        return self._order[1]

    def _pace(self) -> tuple[Tensor | None, float]:
        """Γ of the next update, None where it is 1 for every class, and its learning rate."""
        block, at = divmod(self.step, PLAN_STEPS)
        if self._plan[0] != block:
            begin = block * PLAN_STEPS
            steps = np.arange(begin, begin + PLAN_STEPS, dtype=np.int64)
            gamma = torch.from_numpy(
                class_weights(self.schedule, steps, self.classes, self.balance)
            )
            rates = learning_rates(self.job, steps, self.total_steps)
            self._plan = block, gamma.to(self.device, self.dtype), rates
        _, gammas, rates = self._plan
        flat = self.schedule is None and not self.balance
        return None if flat else gammas[at], float(rates[at])

    def _row(self, sums: Sums) -> Row:
        count, learnt = len(self.train.y), scores(sums.right.numpy(), self.data.train)
        val_loss, val = self.evaluate("val")
        return Row(
            self.epoch,
            self.step,
            sums.loss / count,
            sums.weighted / count,
            float(learnt.plain),
            float(learnt.balanced),
            val_loss,
            float(val.plain),
            float(val.balanced),
            self._pace()[1],
            np.stack([learnt.recall, val.recall]),
        )

    def measure(self) -> Row:
        """Metrics of the present state."""
        return self._row(self._sums(self.train, self._pace()[0]))

    def evaluate(self, part: str) -> tuple[float, Scores]:
        """Static loss and scores on "val" or "test"; NaN without it."""
        samples: Samples | None = getattr(self, part)
        if samples is None:
            return math.nan, scores(np.zeros(self.classes, np.int64), None)
        sums = self._sums(samples, None)
        return sums.loss / len(samples.y), scores(sums.right.numpy(), self.data.parts[part])

    @torch.no_grad()
    def _sums(self, samples: Samples, gamma: Tensor | None) -> Sums:
        loss, weighted, right = 0.0, 0.0, torch.zeros(self.classes, dtype=torch.int64)
        self.network.eval()
        for X, y, group in self._pieces(samples, None, self.piece):
            logits = self.logits(X)
            each = sample_losses(self.base, logits, y)
            loss += float(each.sum(dtype=torch.float64))
            weighted += _total(each, gamma, group)
            right += self._right(logits, y)
        return Sums(loss, weighted, right)

    def snapshot(self) -> Snapshot:
        """Copy of the present weights, and of what else a user's network hangs on."""
        steps = np.array([self.step], dtype=np.int64)
        gamma = class_weights(self.schedule, steps, self.classes, self.balance)[0]
        parts = (p for some in tensors_of(self.network) for p in some.values())
        flat = torch.cat([p.detach().flatten().to("cpu", torch.float64) for p in parts])
        theta = flat.numpy()
        adam, states = None, [self.optimizer.state.get(p, {}) for p in self.trained]
        if all("exp_avg_sq" in state for state in states):
            group, done = self.optimizer.param_groups[0], float(states[0]["step"])
            squares = [state["exp_avg_sq"].flatten().to("cpu", torch.float64) for state in states]
            first, second = (beta**done for beta in group["betas"])
            adam = adam_diagonal(torch.cat(squares).numpy(), first, second, group["eps"])
        return Snapshot(self.epoch, self.step, self._pace()[1], gamma, theta, adam)


def _ready(
    network: torch.nn.Module, sample: Sequence[int], device: torch.device, own: bool
) -> tuple[Callable[[Tensor], Tensor], int]:
    """Return what computes a network's logits on a device, and samples it likes multiples of."""
    if device.type == "cpu" and isinstance(network, Myrtle5):
        from tiltcli.engines.conv.myrtle5 import LARGEST, BlockedMyrtle5

        if len(network.get_parameter("conv1.weight")) <= LARGEST:
            blocked = BlockedMyrtle5(network, sample)
            return blocked, blocked.lanes
    if own:
        return network.to(device), 1
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network, 1


def sound(loss: float) -> bool:
    """Whether a loss is finite and has not exploded."""
    return math.isfinite(loss) and loss <= EXPLODED


def _total(each: Tensor, gamma: Tensor | None, group: Tensor) -> float:
    return float((each if gamma is None else each * gamma[group]).sum(dtype=torch.float64))


def _tensors(part: Part, dtype: torch.dtype, device: torch.device, last: bool) -> Samples:
    key = ("torch", dtype, device, last)
    return part.layout(key, lambda: _on_device(part, dtype, device, last))


def _on_device(part: Part, dtype: torch.dtype, device: torch.device, last: bool) -> Samples:
    X = torch.from_numpy(part.X)
    if X.ndim == 4 and last:
        X = X.permute(0, 2, 3, 1)
    X = X.to(device, dtype, memory_format=torch.contiguous_format)
    y = torch.from_numpy(part.y).to(device)
    group = y if part.groups is None else torch.from_numpy(part.groups).to(device)
    return Samples(X, y, group)


def _optimizer(job: Job, parameters: list[Tensor]) -> torch.optim.Optimizer:
    """Optimiser by name; fused: one call for all parameters of a step."""
    rate = float(job["train.lr"])
    decay = float(job["train.weight_decay"])
    if job["train.optimizer"] == "adam":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, fused=True)
    if job["train.optimizer"] == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)
    return torch.optim.SGD(
        parameters,
        lr=rate,
        momentum=float(job["train.momentum"]),
        nesterov=bool(job.get("train.nesterov", False)),
        weight_decay=decay,
        fused=True,
    )
