"""One training continued at other learning rates: what a bifurcation diagram is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tiltcli.curvature.lyapunov import Follower
from tiltcli.curvature.prober import NetworkCurvature, curvature_of
from tiltcli.data import Dataset
from tiltcli.engines.base import (
    Array,
    Interrupted,
    balance_of,
    class_weights,
    schedule_of,
    total_steps,
)
from tiltcli.engines.coverage import without_derivative
from tiltcli.engines.mlp.fused import network_of
from tiltcli.grid import Job

BLOCK = 1000
"""Steps made before it is asked whether to stop."""


@dataclass(frozen=True)
class Settled:
    """What a training comes to at one learning rate."""

    lr: float  # learning rate η
    # of the losses kept, as counted from the training's start, shape (kept,)
    steps: npt.NDArray[np.int64]
    losses: Array  # F at them; NaN at the step that it diverged at, which is the last then
    sharpness: Array  # λ_max of the Hessian of F at them; NaN but for the last two
    # largest exponent of the training map over them, per step; NaN where it diverged or there is
    # no derivative (Adam, networks without compiled products)
    lyapunov: float


class Brancher:
    """Goes on from the weights of one step, with a learning rate that stays.

    The optimiser begins anew there: its momentum is not kept. The job is a full-batch one that the
    compiled kernel trains; `theta` are the weights after `step` updates, as in `Snapshot`; `frozen`
    holds Γ as it is then; of the `steps` updates, at least 1, the last `keep` are kept. `loss` and
    `sharpness` are F and λ_max of its Hessian at the start.
    """

    def __init__(
        self,
        job: Job,
        data: Dataset,
        step: int,
        theta: Array,
        frozen: bool,
        steps: int,
        keep: int,
    ) -> None:
        self._job, self._data = job, replace(data, val=None, test=None)
        self.step, self._theta, self._steps, self._keep = step, theta, steps, keep
        schedule = schedule_of(job, data.classes, total_steps(job, len(data.train)))
        every = step + np.arange(steps + 1)
        steps_of_gamma = np.full_like(every, step) if frozen else every
        self._gammas = class_weights(schedule, steps_of_gamma, data.classes, balance_of(job, data))
        none = np.zeros(0, dtype=np.int64)
        self._has_derivative = without_derivative(job, "fused") is None
        self._curvature: NetworkCurvature = curvature_of(job, data, none)
        self.sharpness = self._curvature.hessian_max(theta, self._gammas[0])
        network = network_of(job, self._data, theta)
        self.loss = network.measure(network.points[0], self._gammas[0]).weighted

    def at(self, lr: float, stop: Callable[[], bool] = lambda: False) -> Settled:
        """Return what the last steps come to at a learning rate; `stop` is asked now and then.

        Raises:
            Interrupted: when `stop()` became true.

        """
        network = network_of(self._job, self._data, self._theta)
        first = self._steps - self._keep + 1
        # Updates are kept whose derivatives are multiplied; of others the last, for its λ_max.
        align = min(self._steps - self._keep, self._keep // 2)
        bulk = self._steps - (self._keep + align if self._has_derivative else 1)
        follower = Follower(self._job, self._data, align) if self._has_derivative else None
        losses, done, exponent = [], 0, np.nan
        before = self._theta
        while done < self._steps:
            if stop():
                raise Interrupted
            end = min(done + BLOCK, bulk if done < bulk else self._steps)
            record, rates = np.arange(done, end) >= first, np.full(end - done, lr)
            made = network.run(self._gammas[done:end], rates, record, keep=done >= bulk)
            if made.diverged_at is not None:
                number = int(np.count_nonzero(record[: made.diverged_at]))
                losses.append(made.dynamical_loss[:number])
                return self._diverged(lr, done + made.diverged_at, losses)
            losses.append(made.dynamical_loss)
            if made.trail is not None:
                before = made.trail.thetas[-1].astype(np.float64)
                if follower is not None:
                    exponent = follower.follow(made.trail)
            done = end
        last = network.run(
            self._gammas[-1:], np.full(1, lr), np.ones(1, dtype=np.bool_), update_last=False
        )
        if last.diverged_at is not None:
            return self._diverged(lr, self._steps, losses)
        kept = np.concatenate([*losses, last.dynamical_loss])
        sharpness = np.full(len(kept), np.nan)
        for back, theta in zip((1, 2), (network.theta.astype(np.float64), before), strict=True):
            if back <= len(kept):
                sharpness[-back] = self._curvature.hessian_max(theta, self._gammas[-back])
        return Settled(lr, self._numbers(len(kept)), kept, sharpness, exponent)

    def _numbers(self, kept: int, last: int | None = None) -> npt.NDArray[np.int64]:
        end = self.step + (self._steps if last is None else last)
        return np.arange(end - kept + 1, end + 1, dtype=np.int64)

    def _diverged(self, lr: float, at: int, losses: list[Array]) -> Settled:
        kept = np.append(np.concatenate(losses), np.nan)
        return Settled(lr, self._numbers(len(kept), at), kept, np.full(len(kept), np.nan), np.nan)
