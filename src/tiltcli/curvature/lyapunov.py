"""Lyapunov exponents of a training map, from products with its derivative along a trajectory."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from tiltcli.curvature.lanczos import Product

Array = npt.NDArray[np.float64]


def largest_exponent(derivatives: Iterable[Product], size: int, align: int = 0) -> float:
    """Return the largest Lyapunov exponent, per step.

    The mean of ln(‖J_s v_s‖ / ‖v_s‖) for a tangent vector that each step's derivative J_s takes to
    the next, renormalised. From a seeded random direction; an eigenvalue 0 of J, on which the
    vector would die, gives −∞.

    Args:
        derivatives: v ↦ J_s v of successive steps.
        size: length of v.
        align: first steps that only turn the vector towards its direction of growth.

    Returns:
        the mean over the steps after those; NaN without any.

    """
    v = np.random.default_rng(0).standard_normal(size)
    v /= np.linalg.norm(v)
    total, count = 0.0, 0
    for step, derivative in enumerate(derivatives):
        v = derivative(v)
        length = float(np.linalg.norm(v))
        if not 0 < length < math.inf:
            return -math.inf if length == 0 else math.nan
        v /= length
        if step >= align:
            total += math.log(length)
            count += 1
    return total / count if count else math.nan


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
