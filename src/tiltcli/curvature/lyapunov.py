"""Lyapunov exponents of a training map, from products with its derivative along a trajectory."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tiltcli.curvature.blas import single_blas_thread
from tiltcli.curvature.lanczos import Product
from tiltcli.curvature.prober import curvature_of
from tiltcli.data import Dataset
from tiltcli.engines.base import Trail
from tiltcli.engines.mlp.fused import network_of
from tiltcli.engines.mlp.tangents import Tangents, first_direction
from tiltcli.grid import Job

Array = npt.NDArray[np.float64]


class Tangent:
    """A vector that the derivative J of each step takes to the next, renormalised."""

    def __init__(self, size: int) -> None:
        self._vector = first_direction(size)

    def push(self, derivative: Product) -> float:
        """Make a step by v ↦ J v; returns ln(‖J v‖/‖v‖), −∞ where J v is 0."""
        image = derivative(self._vector)
        length = float(np.linalg.norm(image))
        if not 0 < length < math.inf:
            return -math.inf if length == 0 else math.nan
        self._vector = image / length
        return math.log(length)


def largest_exponent(derivatives: Iterable[Product], size: int, align: int = 0) -> float:
    """Return the largest Lyapunov exponent, per step: the mean of ln(‖J v‖/‖v‖); NaN without steps.

    `derivatives` are v ↦ J_s v of successive steps; the first `align` of them only turn the vector,
    from a seeded random direction, towards that of growth.
    """
    tangent = Tangent(size)
    growth = [tangent.push(derivative) for derivative in derivatives][align:]
    return float(np.mean(growth)) if growth else math.nan


def descent_derivative(
    hessian: Product, rate: float, momentum: float = 0.0, nesterov: bool = False, decay: float = 0.0
) -> Product:
    """Return the derivative of a step of gradient descent, by torch.optim.SGD's definition.

    That is v ↦ v − η (H + decay) v without momentum, else of parameters and velocity, one after the
    other; `hessian` is the product with H at the step's parameters.
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
    """Lyapunov exponent of a training, from its updates; the first `align` are not counted.

    Where inputs and classes are few, products are made in float32 by the kernel's own code, about
    as fast as it trains; else in float64. Jobs `without_derivative` (coverage.py) have none.
    """

    def __init__(self, job: Job, data: Dataset, align: int = 0) -> None:
        momentum = float(job.get("train.momentum") or 0.0)
        rule = momentum, bool(job.get("train.nesterov")), float(job["train.weight_decay"])
        self._steps, self._growth = -align, 0.0
        single = replace(job, settings={**job.settings, "train.dtype": "float32"})
        network = network_of(single, data)
        if len(network.layout[0]):
            self._grow = Tangents(network, *rule).grow
            return
        curvature = curvature_of(job, data, np.zeros(0, dtype=np.int64))
        tangent = Tangent(network.parameters * (2 if momentum else 1))

        @single_blas_thread()
        def grow(trail: Trail) -> Array:
            growth = []
            for theta, gamma, rate in zip(trail.thetas, trail.gammas, trail.rates, strict=True):
                hessian = curvature.hessian_product(theta.astype(np.float64), gamma)
                growth.append(tangent.push(descent_derivative(hessian, float(rate), *rule)))
            return np.array(growth)

        self._grow = grow

    def follow(self, trail: Trail) -> float:
        """Take the updates that came next; returns the exponent over all that count, or NaN."""
        growth = self._grow(trail)
        self._growth += float(growth[max(0, -self._steps) :].sum())
        self._steps += len(growth)
        return self._growth / self._steps if self._steps > 0 else math.nan
