"""The valley that a training lies in: the loss along a line through its parameters.

Along the unit eigenvector of the largest Hessian eigenvalue the valley is at its narrowest; there
its width and its depth decide whether gradient descent can follow it. Since F = Σ_c Γ_c L_c, with
L_c the share of class c in the mean loss, the L_c along the line give F for any class weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tiltcli.data import Part
from tiltcli.networks.initial import Weights

Array = npt.NDArray[np.float64]

HEIGHT = 0.02
"""Height above the valley's floor at which its width is taken, in units of the loss."""

REACH, POINTS = 3.0, 241
"""The line: so far to either side of the parameters, at so many points."""


@dataclass(frozen=True)
class Valley:
    """Shape of a loss along a line.

    Attributes:
        depth: F at the valley's floor, the least on the line (F_min).
        at: where on the line it is.
        width: length of the interval around the floor where F < F_min + height, its ends found by
            linear interpolation; NaN where it reaches the end of the line.

    """

    depth: float
    at: float
    width: float


def line() -> Array:
    """Points α of the line, in units of the parameters' distance, shape (241,)."""
    return np.linspace(-REACH, REACH, POINTS)


def losses_along(
    theta: Array, direction: Array, alphas: Array, part: Part, width: int, classes: int, base: str
) -> Array:
    """Shares L_c of the groups in a one-hidden-layer network's mean loss on a line.

    Args:
        theta: parameters flat, see `tiltcli.networks.initial.Weights.theta`.
        direction: of the line, likewise flat.
        alphas: points θ + α·direction of the line, shape (n,).
        part: the samples.
        width: hidden units.
        classes: number of classes C.
        base: "cross_entropy" or "mse" (squared error to the one-hot target).

    Returns:
        L_c, shape (n, C); the static loss is its sum over the classes.

    """
    inputs = part.X.shape[1]
    here, step = (Weights.unflatten(v, inputs, width, classes) for v in (theta, direction))
    # Before the ReLU all is linear along the line.
    start, slope = part.X @ here.W1 + here.b1, part.X @ step.W1 + step.b1
    rows = np.arange(len(part.y))
    count = np.eye(classes)[part.group] / len(part.y)
    shares = np.empty((len(alphas), classes))
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


def shape_of(alphas: Array, losses: Array, height: float = HEIGHT) -> Valley:
    """Return the floor and width of a valley.

    Args:
        alphas: rising, shape (n,).
        losses: F at them, shape (n,), finite.
        height: above the floor, at which the width is taken.

    """
    floor = int(np.argmin(losses))
    level = float(losses[floor]) + height
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
