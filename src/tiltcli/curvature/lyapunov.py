"""Lyapunov exponents of a training map, from products with its derivative along a trajectory."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from tiltcli.curvature.lanczos import Product
from tiltcli.curvature.prober import curvature_of
from tiltcli.data import Dataset
from tiltcli.engines.base import Trail
from tiltcli.grid import Job

Array = npt.NDArray[np.float64]


class Tangent:
    """A vector that the derivative J of each step takes to the next, renormalised.

    It starts in a seeded random direction and turns towards that of growth.

    Args:
        size: its length.
        align: first steps whose growth is not counted.

    Attributes:
        vector: of length 1.
        steps: counted so far.

    """

    def __init__(self, size: int, align: int = 0) -> None:
        vector = np.random.default_rng(0).standard_normal(size)
        self.vector: Array = vector / np.linalg.norm(vector)
        self.steps, self._growth = -align, 0.0

    @property
    def exponent(self) -> float:
        """Mean of ln(‖J v‖ / ‖v‖) over the steps counted; NaN without any.

        An eigenvalue 0 of J on which the vector died gives −∞.
        """
        return self._growth / self.steps if self.steps > 0 else math.nan

    def push(self, derivative: Product) -> None:
        """Make a step by v ↦ J v."""
        self.take(derivative(self.vector))

    def take(self, image: Array) -> None:
        """Make a step to J v."""
        length = float(np.linalg.norm(image))
        self.steps += 1
        if not 0 < length < math.inf:
            self._growth = -math.inf if length == 0 and self._growth == self._growth else math.nan
            return
        self.vector = image / length
        if self.steps > 0:
            self._growth += math.log(length)


def largest_exponent(derivatives: Iterable[Product], size: int, align: int = 0) -> float:
    """Return the largest Lyapunov exponent, per step.

    Args:
        derivatives: v ↦ J_s v of successive steps.
        size: length of v.
        align: first steps that only turn the vector, see `Tangent`.

    Returns:
        the mean over the steps after those; NaN without any.

    """
    tangent = Tangent(size, align)
    for derivative in derivatives:
        tangent.push(derivative)
    return tangent.exponent


def descent_derivative(
    hessian: Product, rate: float, momentum: float = 0.0, nesterov: bool = False, decay: float = 0.0
) -> Product:
    """Return the derivative of a step of gradient descent, by torch.optim.SGD's definition.

    Args:
        hessian: product with the Hessian at the step's parameters.
        rate: learning rate η.
        momentum: β.
        nesterov: whether it looks ahead.
        decay: weight decay.

    Returns:
        v ↦ v − η (H + decay) v without momentum; else of parameters and velocity, one after the
        other.

    """

    def plain(v: Array) -> Array:
        return np.asarray(v - rate * (hessian(v) + decay * v))

    def heavy(both: Array) -> Array:
        v, velocity = np.split(both, 2)
        slope = hessian(np.ascontiguousarray(v)) + decay * v
        velocity = momentum * velocity + slope
        along = slope + momentum * velocity if nesterov else velocity
        return np.concatenate([v - rate * along, velocity])

    return heavy if momentum else plain


class Follower:
    """Lyapunov exponent of a training, from its updates as they are made.

    Args:
        job: one that is not `tiltcli.engines.coverage.without_derivative`.
        data: its data.
        align: first updates that are not counted.

    """

    def __init__(self, job: Job, data: Dataset, align: int = 0) -> None:
        self._curvature = curvature_of(job, data, np.zeros(0, dtype=np.int64))
        self._momentum = float(job.get("train.momentum") or 0.0)
        self._rest = bool(job.get("train.nesterov")), float(job["train.weight_decay"])
        self._align = align
        self._tangent: Tangent | None = None

    def follow(self, trail: Trail) -> float:
        """Take the updates that came next; returns the exponent over all so far."""
        if self._tangent is None:
            size = trail.thetas.shape[1] * (2 if self._momentum else 1)
            self._tangent = Tangent(size, self._align)
        for theta, gamma, rate in zip(trail.thetas, trail.gammas, trail.rates, strict=True):
            hessian = self._curvature.hessian_product(theta.astype(np.float64), gamma)
            self._tangent.push(
                descent_derivative(hessian, float(rate), self._momentum, *self._rest)
            )
        return self._tangent.exponent
