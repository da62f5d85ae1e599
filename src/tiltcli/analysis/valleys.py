"""The valley that a training lies in: the loss along lines through the weights of chosen steps.

Along the unit eigenvector of the largest Hessian eigenvalue the valley is at its narrowest; there
its width and its depth decide whether gradient descent can follow it. Since F = Σ_c Γ_c L_c, with
L_c the share of class c in the mean loss, the L_c along the line give F for any class weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tiltcli.analysis.retraining import weights_at
from tiltcli.analysis.traces import Trace
from tiltcli.curvature.compiled import CompiledCurvature
from tiltcli.data import Dataset, Part, dataset_of
from tiltcli.engines import Snapshot
from tiltcli.engines.base import balance_of, class_weights
from tiltcli.errors import UserError
from tiltcli.grid import Job
from tiltcli.networks.initial import Weights, depth_of, has_one_hidden_layer, takes_pictures

Array = npt.NDArray[np.float64]

HEIGHT = 0.02
"""Height above the valley's floor at which its width is taken, in units of the loss."""

REACH, POINTS = 3.0, 241
"""The line: so far to either side of the parameters, at so many points."""

TOLERANCE = 1e-10


@dataclass(frozen=True)
class Valley:
    """Shape of a loss along a line."""

    depth: float  # F at the valley's floor, the least on the line (F_min)
    at: float  # where on the line it is
    # of the interval around the floor where F < F_min + height; NaN: wider than the line
    width: float


def line() -> Array:
    """Points α of the line, in units of the parameters' distance, shape (241,)."""
    return np.linspace(-REACH, REACH, POINTS)


def losses_along(
    theta: Array, direction: Array, alphas: Array, part: Part, width: int, groups: int, base: str
) -> Array:
    """Return shares L_g of the groups in a one-hidden-layer network's mean loss, shape (n, G).

    At the points θ + α·direction, both flat as in `Weights.theta`; L_g sum to the static loss.
    """
    inputs = part.X.shape[1]
    classes = (theta.size - width * (inputs + 1)) // (width + 1)
    here, step = (Weights.unflatten(v, inputs, width, classes) for v in (theta, direction))
    # Before the ReLU all is linear along the line.
    start, slope = part.X @ here.W1 + here.b1, part.X @ step.W1 + step.b1
    rows = np.arange(len(part.y))
    count = np.eye(groups)[part.group] / len(part.y)
    shares = np.empty((len(alphas), groups))
    for i, alpha in enumerate(alphas):
        hidden = np.maximum(start + alpha * slope, 0.0)
        z = hidden @ (here.W2 + alpha * step.W2) + (here.b2 + alpha * step.b2)
        if base == "mse":
            z[rows, part.y] -= 1.0
            each = (z**2).sum(axis=1)
        else:
            top = z.max(axis=1)
            each = top + np.log(np.exp(z - top[:, None]).sum(axis=1)) - z[rows, part.y]
        shares[i] = each @ count
    return shares


def shape_of(alphas: Array, losses: Array) -> Valley:
    """Return floor and width of a valley, by linear interpolation; NaN where there is no line."""
    if np.isnan(losses).any():
        return Valley(np.nan, np.nan, np.nan)
    floor = int(np.argmin(losses))
    level = float(losses[floor]) + HEIGHT
    above = np.flatnonzero(losses >= level)
    left, right = above[above < floor], above[above > floor]
    width = float("nan")
    if len(left) and len(right):
        i, j = int(left[-1]), int(right[0])
        begin = _between(alphas[i], alphas[i + 1], losses[i], losses[i + 1], level)
        end = _between(alphas[j - 1], alphas[j], losses[j - 1], losses[j], level)
        width = end - begin
    return Valley(float(losses[floor]), float(alphas[floor]), width)


def _between(x0: float, x1: float, y0: float, y1: float, level: float) -> float:
    return float(x0 + (x1 - x0) * (level - y0) / (y1 - y0))


@dataclass(frozen=True)
class Slice:
    """The loss along a line through the weights of one step."""

    step: int  # optimiser updates made
    gamma: Array  # weights Γ there of classes or groups, shape (G,)
    hessian_max: float  # λ_max of the Hessian of F; NaN if it did not converge
    alphas: Array  # points of the line, shape (n,)
    shares: Array  # L_g at them, shape (n, G)

    @property
    def losses(self) -> Array:
        """F at the points of the line, at the class weights of the step."""
        return np.asarray(self.shares @ self.gamma)

    @cached_property
    def valley(self) -> Valley:
        """Floor and width of F along the line."""
        return shape_of(self.alphas, self.losses)

    @cached_property
    def static_valley(self) -> Valley:
        """Floor and width of the static loss along the line."""
        return shape_of(self.alphas, self.shares.sum(axis=1))


class Slicer:
    """Cuts through the loss of one job, whose network must have one hidden layer."""

    def __init__(self, job: Job, data: Dataset) -> None:
        if not has_one_hidden_layer(job):
            depth = "" if takes_pictures(job) else f" of depth {depth_of(job)}"
            raise UserError(
                f"valleys are cut through networks of one hidden layer (model.kind = mlp), "
                f"not {job['model.kind']}{depth}"
            )
        self._width, self._base = int(job["model.width"]), str(job["loss.base"])
        self._data = data
        none = np.zeros(0, dtype=np.int64)
        self._curvature = CompiledCurvature(data, self._width, self._base, none)

    def at(self, step: int, theta: Array, gamma: Array) -> Slice:
        """Return the line along the top eigenvector through the flat weights θ, at Γ.

        Towards positive α lies the side on which F is less at the end of the line.
        """
        height, vector = self._top(theta, gamma)
        alphas, part, width = line(), self._data.train, self._width
        shares = np.full((len(alphas), gamma.size), np.nan)
        if not np.isnan(height):
            shares = losses_along(theta, vector, alphas, part, width, gamma.size, self._base)
        # An eigenvector has no sign of its own: the line is symmetric, its flatter side is right.
        if shares[-1] @ gamma > shares[0] @ gamma:
            shares = shares[::-1].copy()
        return Slice(step, gamma, height, alphas, shares)

    def along(self, snapshots: Sequence[Snapshot]) -> list[Slice]:
        """Lines through the weights of some steps, each at its step's class weights."""
        return [self.at(one.step, one.theta, one.gamma) for one in snapshots]

    def _top(self, theta: Array, gamma: Array) -> tuple[float, Array]:
        """Largest eigenvalue of the Hessian and its unit eigenvector; NaN if not converged."""
        from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

        size = theta.size
        product = self._curvature.hessian_product(theta, gamma)
        start = np.random.default_rng(0).standard_normal(size)
        operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
        try:
            values, vectors = eigsh(operator, k=1, which="LA", v0=start, tol=TOLERANCE)
        except ArpackError:
            return np.nan, np.full(size, np.nan)
        return float(values[0]), np.asarray(vectors[:, 0])


def phase_steps(begin: int, period: int, count: int, last: int) -> list[int]:
    """Return steps that divide a pulse evenly: its begin, its end, and what lies between."""
    steps = np.unique(np.round(begin + np.linspace(0, period, count)).astype(np.int64))
    return [int(step) for step in steps if step <= last]


@dataclass(frozen=True)
class Valleys:
    """Valleys along a training's first pulses."""

    pulse: int  # the pulse whose shapes are looked at closely, counted from 1
    begin: int  # its first step
    trained: Sequence[Slice]  # slices of all pulses looked at, by step
    middle: int  # step in the middle of that pulse
    # slices of the weights at `middle`, at the class weights of the pulse's steps
    frozen: Sequence[Slice]


def valleys_of(one: Trace, engine: str, *, most: int = 5, phases: int = 21) -> Valleys:
    """Return the valleys of a job's first pulses, trained again, at so many steps of each."""
    schedule = one.schedule
    last = int(one.metrics["step"].max())
    if schedule is None or one.steps_per_epoch > 1:
        raise UserError(
            f"job {one.job.id}: the valley is followed through a dynamical job's pulses, step by "
            'step: it needs loss.kind = "dynamical" and train.batch_size = "full"'
        )
    settled = last if schedule.settled_from is None else min(schedule.settled_from, last)
    pulses = min(settled // schedule.pulse, most)
    if pulses == 0 or schedule.period < 2:
        raise UserError(f"job {one.job.id}: not one pulse of the loss lies within its training")
    data = dataset_of(one.job)
    begins = [k * schedule.pulse for k in range(pulses)]
    steps = [phase_steps(begin, schedule.period, phases, last) for begin in begins]
    epochs = sorted({step for some in steps for step in some})
    snapshots = weights_at(one.job, data, epochs, engine)
    slicer = Slicer(one.job, data)
    chosen = min(1, pulses - 1)
    own = steps[chosen]
    middle = next(shot for shot in snapshots if shot.step == own[len(own) // 2])
    gammas = class_weights(
        schedule, np.array(own, np.int64), data.classes, balance_of(one.job, data)
    )
    frozen = [slicer.at(step, middle.theta, g) for step, g in zip(own, gammas, strict=True)]
    return Valleys(chosen + 1, begins[chosen], slicer.along(snapshots), middle.step, frozen)
