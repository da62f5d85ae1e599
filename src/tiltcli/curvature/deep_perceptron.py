"""Curvature of a perceptron with several hidden layers, by matrix products.

With a_0 = x, a_k = relu(W_kᵀ a_{k−1} + b_k) and the logits z last, a change V of the weights makes
changes ȧ_k = [a_k > 0] (W_kᵀ ȧ_{k−1} + V_kᵀ a_{k−1} + v_k), and changes the gradient's parts
a_{k−1} δ_kᵀ by ȧ_{k−1} δ_kᵀ + a_{k−1} δ̇_kᵀ (Pearlmutter 1994). ReLU networks are linear in each
single weight almost everywhere, so the trace of the Hessian is that of Σ_j J_jᵀ S_j J_j, S the
loss's own. In float64.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tiltcli.curvature.lanczos import Product, extreme_eigenvalues, hessian_columns, kernel_columns
from tiltcli.data import Dataset

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Passed:
    """What a forward pass leaves: weights, values before each layer (P, inputs), logits (P, C)."""

    weights: list[tuple[Array, Array]]
    values: list[Array]
    logits: Array

    def forward(self, change: list[tuple[Array, Array]]) -> tuple[list[Array], Array]:
        """Change of the values before each layer but the first, and of the logits."""
        changes: list[Array] = []
        for (W, _), (V, v), a in zip(self.weights, change, self.values, strict=True):
            moved = a @ V + v
            if changes:
                moved += changes[-1] @ W
            changes.append(moved)
            if len(changes) < len(self.weights):
                moved *= self.values[len(changes)] > 0
        return changes[:-1], changes[-1]

    def back(self, slopes: Array) -> list[Array]:
        """Slopes by what each layer gives before its ReLU, from those by the logits."""
        found = [slopes]
        for (W, _), a in zip(self.weights[:0:-1], self.values[:0:-1], strict=True):
            found.append((found[-1] @ W.T) * (a > 0))
        return found[::-1]

    def gradient(self, slopes: Array) -> Array:
        """Parameters J ᵀ slopes, flat."""
        parts = zip(self.values, self.back(slopes), strict=True)
        return np.concatenate([x for a, s in parts for x in ((a.T @ s).ravel(), s.sum(axis=0))])

    def jacobians(self) -> list[Array]:
        """∂z/∂(before each layer's ReLU), (P, C, outputs)."""
        P, C = self.logits.shape
        found = [np.broadcast_to(np.eye(C), (P, C, C))]
        for (W, _), a in zip(self.weights[:0:-1], self.values[:0:-1], strict=True):
            found.append((found[-1] @ W.T) * (a > 0)[:, None])
        return found[::-1]


class LayeredCurvature:
    """Of `depth` hidden layers; see `tiltcli.curvature.prober.NetworkCurvature`."""

    def __init__(
        self, data: Dataset, width: int, depth: int, base: str, points: Int64[np.ndarray, " points"]
    ) -> None:
        self._units = [data.train.X.shape[1], *[width] * depth, data.classes]
        self._squared = base == "mse"
        self._X = np.asarray(data.train.X, np.float64)
        self._labels, self._groups = data.train.y, data.train.group
        self._kernel_X = self._X[points]

    def hessian(
        self, theta: Float64[np.ndarray, " parameters"], gamma: Float64[np.ndarray, " groups"]
    ) -> dict[str, float]:
        """Return the columns of the Hessian of F but `hessian_max_static`; the trace is exact."""
        passed, weights, p, _ = self._state(theta, gamma)
        trace = 0.0
        for a, B in zip(passed.values, passed.jacobians(), strict=True):
            own, mean = (B**2).sum(axis=2), (p[:, :, None] * B).sum(axis=1)
            spread = (p * own).sum(axis=1) - (mean**2).sum(axis=1)
            each = 2 * own.sum(axis=1) if self._squared else spread
            trace += float(weights @ (((a**2).sum(axis=1) + 1) * each))
        return hessian_columns(self.hessian_product(theta, gamma), theta.size, trace)

    def hessian_max(
        self, theta: Float64[np.ndarray, " parameters"], gamma: Float64[np.ndarray, " groups"]
    ) -> float:
        """Largest eigenvalue alone; arguments as of `hessian`."""
        return float(extreme_eigenvalues(self.hessian_product(theta, gamma), theta.size, 1)[0])

    def hessian_product(
        self, theta: Float64[np.ndarray, " parameters"], gamma: Float64[np.ndarray, " groups"]
    ) -> Product:
        """V ↦ H v; arguments as of `hessian`."""
        passed, weights, p, slopes = self._state(theta, gamma)
        deltas = passed.back(slopes)

        def product(v: Array) -> Array:
            change = self._split(v)
            changes, e = passed.forward(change)
            if self._squared:
                e = 2 * weights[:, None] * e
            else:
                e = weights[:, None] * p * (e - (p * e).sum(axis=1, keepdims=True))
            out: list[Array] = []
            for k in range(len(deltas) - 1, -1, -1):
                part = passed.values[k].T @ e
                if k:
                    part += changes[k - 1].T @ deltas[k]
                out[:0] = [part.ravel(), e.sum(axis=0)]
                if k:
                    e = e @ passed.weights[k][0].T + deltas[k] @ change[k][0].T
                    e *= passed.values[k] > 0
            return np.concatenate(out)

        return product

    def gradient(
        self, theta: Float64[np.ndarray, " parameters"], gamma: Float64[np.ndarray, " groups"]
    ) -> Float64[np.ndarray, " trained"]:
        """Gradient of F, shape of `theta`; arguments as of `hessian`."""
        passed, _, _, slopes = self._state(theta, gamma)
        return passed.gradient(slopes)

    def on(self, rows: Int64[np.ndarray, " rows"]) -> LayeredCurvature:
        """Curvature of the mean loss on some of the training points alone."""
        some = copy.copy(self)
        some._X, some._labels, some._groups = self._X[rows], self._labels[rows], self._groups[rows]
        return some

    def ntk(self, theta: Float64[np.ndarray, " parameters"]) -> dict[str, float]:
        """Largest eigenvalues of the traced and of the full tangent kernel."""
        passed = self._pass(theta, self._kernel_X)
        rows, classes = passed.logits.shape
        pairs = [
            (np.hstack([a, np.ones((rows, 1))]), B.reshape(rows, -1))
            for a, B in zip(passed.values, passed.jacobians(), strict=True)
        ]

        def traced(v: Array) -> Array:
            total = np.zeros(rows)
            for a, B in pairs:
                total += ((a @ (a.T @ (v[:, None] * B))) * B).sum(axis=1)
            return np.asarray(total / classes)

        def full(v: Array) -> Array:
            change = self._split(passed.gradient(v.reshape(rows, classes)))
            return passed.forward(change)[1].ravel()

        return kernel_columns(full, rows, classes, traced)

    def _split(self, flat: Array) -> list[tuple[Array, Array]]:
        found, begin = [], 0
        for n, m in zip(self._units, self._units[1:], strict=False):
            end = begin + n * m
            found.append((flat[begin:end].reshape(n, m), flat[end : end + m]))
            begin = end + m
        return found

    def _pass(self, theta: Array, X: Array) -> _Passed:
        weights, values = self._split(theta), [X]
        for W, b in weights[:-1]:
            values.append(np.maximum(values[-1] @ W + b, 0.0))
        W, b = weights[-1]
        return _Passed(weights, values, values[-1] @ W + b)

    def _state(self, theta: Array, gamma: Array) -> tuple[_Passed, Array, Array, Array]:
        """Forward pass, weights of the points, probabilities and slopes by the logits."""
        passed = self._pass(theta, self._X)
        weights = gamma[self._groups] / len(self._groups)
        target = np.eye(passed.logits.shape[1])[self._labels]
        if self._squared:
            slopes = 2 * weights[:, None] * (passed.logits - target)
            return passed, weights, np.zeros_like(target), slopes
        p = np.exp(passed.logits - passed.logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        return passed, weights, p, weights[:, None] * (p - target)
