"""Valleys along a training: lines through the weights of chosen steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tiltcli.analysis.loss_lines import Valley, line, losses_along, shape_of
from tiltcli.curvature.compiled import CompiledCurvature
from tiltcli.data import Dataset
from tiltcli.engines import Snapshot
from tiltcli.errors import UserError, with_suggestion
from tiltcli.grid import Job
from tiltcli.networks.initial import depth_of, has_one_hidden_layer, takes_pictures

Array = npt.NDArray[np.float64]

DIRECTIONS = ("hessian", "gradient")
"""Along the eigenvector of the largest Hessian eigenvalue of F, or down its gradient."""

TOLERANCE = 1e-10


@dataclass(frozen=True)
class Slice:
    """The loss along a line through the weights of one step.

    Attributes:
        step: optimiser updates made.
        gamma: class weights Γ there, shape (C,).
        hessian_max: λ_max of the Hessian of F; NaN if it did not converge.
        alphas: points of the line, shape (n,).
        shares: L_c at them, shape (n, C).

    """

    step: int
    gamma: Array
    hessian_max: float
    alphas: Array
    shares: Array

    @property
    def losses(self) -> Array:
        """F at the points of the line, at the class weights of the step; shape (n,)."""
        return np.asarray(self.shares @ self.gamma)

    @cached_property
    def valley(self) -> Valley:
        """Floor and width of F along the line; NaN without a direction."""
        if np.isnan(self.shares).any():
            return Valley(np.nan, np.nan, np.nan)
        return shape_of(self.alphas, self.losses)

    @cached_property
    def static_valley(self) -> Valley:
        """Floor and width of the static loss along the line; NaN without a direction."""
        if np.isnan(self.shares).any():
            return Valley(np.nan, np.nan, np.nan)
        return shape_of(self.alphas, self.shares.sum(axis=1))


class Slicer:
    """Cuts through the loss of one job.

    Args:
        job: a job whose network has one hidden layer.
        data: its data.
        direction: of DIRECTIONS.

    Raises:
        UserError: for another network, or an unknown direction.

    """

    def __init__(self, job: Job, data: Dataset, direction: str = "hessian") -> None:
        if direction not in DIRECTIONS:
            problem = f"direction: got {direction}"
            raise UserError(with_suggestion(problem, direction, DIRECTIONS))
        if not has_one_hidden_layer(job):
            depth = "" if takes_pictures(job) else f" of depth {depth_of(job)}"
            raise UserError(
                f"valleys are cut through networks of one hidden layer (model.kind = mlp), "
                f"not {job['model.kind']}{depth}"
            )
        self._width, self._base = int(job["model.width"]), str(job["loss.base"])
        self._data, self._direction = data, direction
        none = np.zeros(0, dtype=np.int64)
        self._curvature = CompiledCurvature(data, self._width, self._base, none)

    def at(self, step: int, theta: Array, gamma: Array) -> Slice:
        """Return the line through the weights θ, at the class weights Γ.

        Towards positive α lies the descent along the gradient; along the eigenvector, the side on
        which F is less at the end of the line.

        Args:
            step: optimiser updates made.
            theta: parameters flat, see `tiltcli.networks.initial.Weights.theta`.
            gamma: shape (C,).

        """
        height, vector = self._top(theta, gamma)
        if self._direction == "gradient":
            gradient = self._curvature.gradient(theta, gamma)
            norm = float(np.linalg.norm(gradient))
            vector = -gradient / norm if norm > 0 else np.full(theta.size, np.nan)
        alphas = line()
        if np.isnan(vector).any():
            shares = np.full((len(alphas), self._data.classes), np.nan)
            return Slice(step, gamma, height, alphas, shares)
        shares = losses_along(
            theta, vector, alphas, self._data.train, self._width, self._data.classes, self._base
        )
        # An eigenvector has no sign of its own: the line is symmetric, its flatter side is right.
        if self._direction == "hessian" and shares[-1] @ gamma > shares[0] @ gamma:
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
    """Return steps that divide a pulse evenly: its begin, its end, and what lies between.

    Args:
        begin: first step of the pulse.
        period: its length T, steps.
        count: steps asked for, at least 2.
        last: step not to be exceeded.

    """
    steps = np.unique(np.round(begin + np.linspace(0, period, count)).astype(np.int64))
    return [int(step) for step in steps if step <= last]
