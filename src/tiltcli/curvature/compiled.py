"""Curvature of a one-hidden-layer network by the compiled products."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tiltcli.curvature import hidden_layer
from tiltcli.curvature.lanczos import Product, extreme_eigenvalues, hessian_columns, kernel_columns
from tiltcli.data import Dataset
from tiltcli.networks.initial import Weights

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64

Array = npt.NDArray[np.float64]


class CompiledCurvature:
    """Of one hidden layer; see `tiltcli.curvature.prober.NetworkCurvature`."""

    def __init__(
        self, data: Dataset, width: int, base: str, points: Int64[np.ndarray, " points"]
    ) -> None:
        self._width, self._classes, self._base = width, data.classes, base
        self._labels, self._groups = data.train.y, data.train.group
        self._X = _with_ones(data.train.X)
        self._kernel_X = _with_ones(data.train.X[points])

    def hessian(
        self, theta: Float64[np.ndarray, " parameters"], gamma: Float64[np.ndarray, " groups"]
    ) -> dict[str, float]:
        """Return the columns of the Hessian of F but `hessian_max_static`; the trace is exact."""
        state = self._state(theta, gamma)
        trace = float(hidden_layer.trace(*state[:5]))
        return hessian_columns(_hessian(state, theta.size), theta.size, trace)

    def hessian_max(
        self, theta: Float64[np.ndarray, " parameters"], gamma: Float64[np.ndarray, " groups"]
    ) -> float:
        """Largest eigenvalue alone; arguments as of `hessian`."""
        state = self._state(theta, gamma)
        return float(extreme_eigenvalues(_hessian(state, theta.size), theta.size, 1)[0])

    def hessian_product(
        self, theta: Float64[np.ndarray, " parameters"], gamma: Float64[np.ndarray, " groups"]
    ) -> Product:
        """V ↦ H v; arguments as of `hessian`."""
        return _hessian(self._state(theta, gamma), theta.size)

    def gradient(
        self, theta: Float64[np.ndarray, " parameters"], gamma: Float64[np.ndarray, " groups"]
    ) -> Float64[np.ndarray, " trained"]:
        """Gradient of F, shape of `theta`; arguments as of `hessian`."""
        X, H, W2, _, _, d = self._state(theta, gamma)
        found = np.empty(theta.size)
        hidden_layer.pull(d, found, X, H, W2)
        return found

    def on(self, rows: Int64[np.ndarray, " rows"]) -> CompiledCurvature:
        """Curvature of the mean loss on some of the training points alone."""
        some = copy.copy(self)
        some._labels, some._groups = self._labels[rows], self._groups[rows]
        some._X = np.ascontiguousarray(self._X[:, rows])
        return some

    def ntk(self, theta: Float64[np.ndarray, " parameters"]) -> dict[str, float]:
        """Largest eigenvalues of the traced and of the full tangent kernel."""
        X, classes = self._kernel_X, self._classes
        weights = Weights.unflatten(theta, X.shape[0] - 1, self._width, classes)
        H, z = self._forward(weights, X)
        u, work = np.empty(theta.size), np.empty_like(H)

        def full(v: Array) -> Array:
            out = np.empty_like(z)
            hidden_layer.full_kernel(v.reshape(z.shape), out, X, H, weights.W2, u, work)
            return out.ravel()

        return kernel_columns(full, z.shape[1], classes, _traced(X, H, weights))

    def traced_product(self, theta: Float64[np.ndarray, " parameters"]) -> Product:
        """V ↦ K v with the traced tangent kernel K."""
        X = self._kernel_X
        weights = Weights.unflatten(theta, X.shape[0] - 1, self._width, self._classes)
        return _traced(X, self._forward(weights, X)[0], weights)

    def _forward(self, weights: Weights, X: Array) -> tuple[Array, Array]:
        H, z = np.empty((self._width, X.shape[1])), np.empty((self._classes, X.shape[1]))
        W1 = np.vstack([weights.W1, weights.b1])
        hidden_layer.forward(X, W1, weights.W2, weights.b2, H, z)
        return H, z

    def _state(self, theta: Array, gamma: Array) -> tuple[Any, ...]:
        weights = Weights.unflatten(theta, self._X.shape[0] - 1, self._width, self._classes)
        H, z = self._forward(weights, self._X)
        w = gamma[self._groups] / len(self._groups)
        d = np.empty_like(z)
        if self._base == "mse":
            p = np.empty((0, z.shape[1]))
            hidden_layer.squared_state(z, self._labels, w, p, d)
        else:
            p = np.empty_like(z)
            hidden_layer.softmax_state(z, self._labels, w, p, d)
        return self._X, H, weights.W2, w, p, d


def _with_ones(X: Array) -> Array:
    """Points in the last axis, and a row of ones for the biases."""
    return np.ascontiguousarray(np.vstack([X.T, np.ones(len(X))]))


def _traced(X: Array, H: Array, weights: Weights) -> Product:
    def product(v: Array) -> Array:
        out = np.empty_like(v)
        hidden_layer.kernel(v, out, X, H, weights.W2)
        return out

    return product


def _hessian(state: tuple[Any, ...], parameters: int) -> Product:
    H, d = state[1], state[5]
    space = np.empty_like(H), np.empty_like(d)

    def product(v: Array) -> Array:
        out = np.empty(parameters)
        arguments: tuple[Any, ...] = (v, out, *state, *space)
        hidden_layer.hessian(*arguments)
        return out

    return product
