"""One training continued at other learning rates: what a bifurcation diagram is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tiltcli.curvature.lanczos import Product
from tiltcli.curvature.lyapunov import descent_derivative, largest_exponent
from tiltcli.curvature.prober import Curvature, curvature_of
from tiltcli.data import Dataset
from tiltcli.engines.base import (
    Array,
    Interrupted,
    Snapshot,
    class_weights,
    schedule_of,
    total_steps,
)
from tiltcli.engines.mlp.fused import network_of
from tiltcli.grid import Job
from tiltcli.networks.initial import has_one_hidden_layer

BLOCK = 1000
"""Steps made before it is asked whether to stop."""


@dataclass(frozen=True)
class Settled:
    """What a training comes to at one learning rate.

    Attributes:
        lr: learning rate η.
        steps: of the losses kept, as counted from the training's start, shape (kept,), int64.
        losses: F at them; NaN at the step that it diverged at, which is the last then.
        sharpness: λ_max of the Hessian of F at them; NaN but for the last two.
        lyapunov: largest exponent of the training map over them, per step; NaN where it diverged
            or there is no derivative (Adam, networks without compiled products).

    """

    lr: float
    steps: npt.NDArray[np.int64]
    losses: Array
    sharpness: Array
    lyapunov: float


class Brancher:
    """Goes on from the weights of one step, with a learning rate that stays.

    The optimiser begins anew there: its momentum is not kept.

    Args:
        job: a full-batch job that the compiled kernel trains.
        data: its data.
        start: the weights.
        frozen: whether Γ stays as it is at that step.
        steps: updates to make, at least 1.
        keep: last steps to keep, at most `steps`.

    Attributes:
        step: of the start.
        loss: F there.
        sharpness: λ_max of the Hessian of F there.

    """

    def __init__(
        self, job: Job, data: Dataset, start: Snapshot, frozen: bool, steps: int, keep: int
    ) -> None:
        self._job, self._data = job, replace(data, val=None, test=None)
        self._start, self._steps, self._keep = start, steps, keep
        schedule = schedule_of(job, data.classes, total_steps(job, len(data.train)))
        every = start.step + np.arange(steps + 1)
        self._gammas = class_weights(
            schedule, np.full_like(every, start.step) if frozen else every, data.classes
        )
        none = np.zeros(0, dtype=np.int64)
        self._curvature: Curvature = curvature_of(job, data, none)
        self.step, gamma = start.step, self._gammas[0]
        self.sharpness = self._curvature.hessian_max(start.theta, gamma)
        network = network_of(job, self._data, start.theta)
        self.loss = network.measure(network.points[0], gamma).weighted

    def at(self, lr: float, stop: Callable[[], bool] = lambda: False) -> Settled:
        """Go on at a learning rate.

        Args:
            lr: the learning rate.
            stop: asked now and then.

        Returns:
            what its last steps come to.

        Raises:
            Interrupted: when `stop()` became true.

        """
        network = network_of(self._job, self._data, self._start.theta)
        first = self._steps - self._keep + 1
        # Weights are needed of the last two steps, and of those whose derivatives are multiplied.
        single = min(self._steps, self._keep + self._keep // 2 if self._has_derivative else 1)
        bulk, losses, thetas, done = self._steps - single, [], [], 0
        while done < self._steps:
            if stop():
                raise Interrupted
            if done >= bulk:
                thetas.append(network.theta.astype(np.float64))
            end = min(done + BLOCK, bulk) if done < bulk else done + 1
            record = np.arange(done, end) >= first
            made = network.run(self._gammas[done:end], np.full(end - done, lr), record)
            if made.diverged_at is not None:
                before = int(np.count_nonzero(record[: made.diverged_at]))
                losses.append(made.dynamical_loss[:before])
                return self._diverged(lr, done + made.diverged_at, losses)
            losses.append(made.dynamical_loss)
            done = end
        thetas.append(network.theta.astype(np.float64))
        last = network.run(
            self._gammas[-1:], np.full(1, lr), np.ones(1, dtype=np.bool_), update_last=False
        )
        if last.diverged_at is not None:
            return self._diverged(lr, self._steps, losses)
        kept = np.concatenate([*losses, last.dynamical_loss])
        sharpness = np.full(len(kept), np.nan)
        for back in range(1, min(2, len(kept)) + 1):
            gamma = self._gammas[-back]
            sharpness[-back] = self._curvature.hessian_max(thetas[-back], gamma)
        exponent = np.nan
        if self._has_derivative:
            size = thetas[0].size * (2 if self._job.get("train.momentum") else 1)
            maps = self._derivatives(lr, thetas[:-1], self._gammas[bulk:-1])
            exponent = largest_exponent(maps, size, max(0, single - self._keep))
        return Settled(lr, self._numbers(len(kept)), kept, sharpness, exponent)

    @property
    def _has_derivative(self) -> bool:
        return self._job["train.optimizer"] == "sgd" and has_one_hidden_layer(self._job)

    def _derivatives(self, lr: float, thetas: list[Array], gammas: Array) -> Iterator[Product]:
        for theta, gamma in zip(thetas, gammas, strict=True):
            yield descent_derivative(
                self._curvature.hessian_product(theta, gamma),
                lr,
                float(self._job.get("train.momentum") or 0.0),
                bool(self._job.get("train.nesterov")),
                float(self._job["train.weight_decay"]),
            )

    def _numbers(self, kept: int, last: int | None = None) -> npt.NDArray[np.int64]:
        end = self._start.step + (self._steps if last is None else last)
        return np.arange(end - kept + 1, end + 1, dtype=np.int64)

    def _diverged(self, lr: float, at: int, losses: list[Array]) -> Settled:
        kept = np.append(np.concatenate(losses), np.nan)
        return Settled(lr, self._numbers(len(kept), at), kept, np.full(len(kept), np.nan), np.nan)
