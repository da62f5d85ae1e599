"""Curvature of any torch network, by products that automatic differentiation makes.

A product with the Hessian is the derivative of the gradient in a direction (Pearlmutter 1994), one
with the tangent kernel J Jᵀ a backward pass and its own derivative, all in reverse mode, which any
layer has. Points are gone through in pieces whose parts are added in float64, so that memory grows
neither with their number nor with the kernel's size.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vjp

from tiltcli.curvature.lanczos import Product, extreme_eigenvalues, hessian_columns, kernel_columns
from tiltcli.curvature.memory import PIECE
from tiltcli.curvature.spectrum import trace
from tiltcli.data import Dataset
from tiltcli.grid import Job
from tiltcli.losses import sample_losses
from tiltcli.networks.models import network_of, tensors_of

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64, Shaped

Array = npt.NDArray[np.float64]

Map: TypeAlias = Callable[..., Any]
Made = TypeVar("Made")

KEPT = 4 * PIECE
"""Points up to which what a derivative needs is kept from one product to the next."""


class AutogradCurvature:
    """Of any module from (n, …) to logits (n, C); see `tiltcli.curvature.prober.NetworkCurvature`.

    `network` is as it is in evaluation, and its tensors are replaced: the first of `theta` are the
    parameters that are trained, the others do not vary (`tiltcli.networks.models.tensors_of`). `y`
    holds the class, `group` the group whose Γ weighs a point; `points` are those of the tangent
    kernel.
    """

    def __init__(
        self,
        network: nn.Module,
        base: str,
        X: Shaped[np.ndarray, "samples ..."],
        y: Int64[np.ndarray, " samples"],
        group: Int64[np.ndarray, " samples"],
        points: Int64[np.ndarray, " points"],
        classes: int,
    ) -> None:
        self._network, self._copies = network.double().eval(), threading.local()
        trained, self._others = tensors_of(self._network)
        self._shapes = {name: p.shape for name, p in trained.items()}
        self._sizes = [shape.numel() for shape in self._shapes.values()]
        self._count = sum(self._sizes)
        self._base, self._classes = base, classes
        self._X, self._y, self._group, self._points = X, y, group, points

    @staticmethod
    def of(job: Job, data: Dataset, points: npt.NDArray[np.int64]) -> AutogradCurvature:
        """Curvature of a job's network."""
        network = network_of(job, data.sample_shape, data.classes, torch.float64)
        base = str(job["loss.base"])
        train, classes = data.train, data.classes
        return AutogradCurvature(network, base, train.X, train.y, train.group, points, classes)

    def hessian(
        self, theta: Float64[np.ndarray, " parameters"], gamma: Float64[np.ndarray, " groups"]
    ) -> dict[str, float]:
        """Return the Hessian's columns but `hessian_max_static`; the trace is an estimate."""
        product = self.hessian_product(theta, gamma)
        return hessian_columns(product, self._count, *trace(product, self._count))

    def hessian_max(
        self, theta: Float64[np.ndarray, " parameters"], gamma: Float64[np.ndarray, " groups"]
    ) -> float:
        """Largest eigenvalue alone; arguments as of `hessian`."""
        return float(extreme_eigenvalues(self.hessian_product(theta, gamma), self._count, 1)[0])

    def hessian_product(
        self, theta: Float64[np.ndarray, " parameters"], gamma: Float64[np.ndarray, " groups"]
    ) -> Product:
        """V ↦ H v; arguments as of `hessian`."""
        parameters, others = self._tensors(theta)
        weights = torch.from_numpy(gamma[self._group] / len(self._y))
        every = np.arange(len(self._y), dtype=np.int64)

        def slopes() -> Iterator[Map]:
            for X, y, place in self._pieces(every):
                yield vjp(grad(self._loss(X, y, weights[place], others)), parameters)[1]

        maps = _repeatable(slopes, len(every))

        def product(v: Array) -> Array:
            direction = self._unflatten(torch.from_numpy(np.ascontiguousarray(v)))
            total = torch.zeros(self._count, dtype=torch.float64)
            for back in maps():
                total += _flat(back(direction)[0])  # vᵀH = Hv: it is symmetric
            return total.numpy()

        return product

    def gradient(
        self, theta: Float64[np.ndarray, " parameters"], gamma: Float64[np.ndarray, " groups"]
    ) -> Float64[np.ndarray, " trained"]:
        """Gradient of F by what is trained; arguments as of `hessian`."""
        parameters, others = self._tensors(theta)
        weights = torch.from_numpy(gamma[self._group] / len(self._y))
        total = torch.zeros(self._count, dtype=torch.float64)
        for X, y, place in self._pieces(np.arange(len(self._y), dtype=np.int64)):
            total += _flat(grad(self._loss(X, y, weights[place], others))(parameters))
        return total.numpy()

    def on(self, rows: Int64[np.ndarray, " rows"]) -> AutogradCurvature:
        """Curvature of the mean loss on some of the training points alone."""
        some = copy.copy(self)
        some._X, some._y, some._group = self._X[rows], self._y[rows], self._group[rows]
        return some

    def ntk(self, theta: Float64[np.ndarray, " parameters"]) -> dict[str, float]:
        """Largest eigenvalues of the traced and of the full tangent kernel."""
        parameters, others = self._tensors(theta)
        rows, classes = len(self._points), self._classes
        jacobians = _repeatable(lambda: self._jacobians(parameters, others), rows)

        def full(v: Array) -> Array:
            weights = torch.from_numpy(v).reshape(rows, classes)
            total = torch.zeros(self._count, dtype=torch.float64)
            for place, back, _ in jacobians():
                total += _flat(back(weights[place])[0])
            direction = self._unflatten(total)
            ahead = [across(direction)[0] for _, _, across in jacobians()]
            return torch.cat(ahead).numpy().ravel()

        return kernel_columns(full, rows, classes)

    def _pieces(self, rows: npt.NDArray[np.int64]) -> Iterator[tuple[Tensor, Tensor, slice]]:
        """Points in float64 with their labels and their places among `rows`."""
        for begin in range(0, len(rows), PIECE):
            some = rows[begin : begin + PIECE]
            X = torch.from_numpy(np.asarray(self._X[some], dtype=np.float64))
            yield X, torch.from_numpy(self._y[some]), slice(begin, begin + len(some))

    def _unflatten(self, flat: Tensor) -> dict[str, Tensor]:
        parts = torch.split(flat, self._sizes)
        return {
            name: part.reshape(shape)
            for part, (name, shape) in zip(parts, self._shapes.items(), strict=True)
        }

    def _tensors(self, theta: Array) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Parameters that are trained, and the network's other tensors."""
        flat, others = torch.from_numpy(theta), {}
        for (name, like), part in zip(
            self._others.items(),
            torch.split(flat[self._count :], [one.numel() for one in self._others.values()]),
            strict=True,
        ):
            others[name] = part.reshape(like.shape).to(like.dtype)
        return self._unflatten(flat[: self._count]), others

    def _logits(
        self, X: Tensor, others: dict[str, Tensor]
    ) -> Callable[[dict[str, Tensor]], Tensor]:
        # A call puts its tensors into the module for as long as it lasts: one for each thread.
        if not hasattr(self._copies, "network"):
            self._copies.network = copy.deepcopy(self._network)
        network: nn.Module = self._copies.network

        def logits(parameters: dict[str, Tensor]) -> Tensor:
            found: Tensor = functional_call(network, {**parameters, **others}, (X,))
            return found

        return logits

    def _loss(
        self, X: Tensor, y: Tensor, weights: Tensor, others: dict[str, Tensor]
    ) -> Callable[[dict[str, Tensor]], Tensor]:
        logits = self._logits(X, others)

        def loss(parameters: dict[str, Tensor]) -> Tensor:
            return (weights * sample_losses(self._base, logits(parameters), y)).sum()

        return loss

    def _jacobians(
        self, parameters: dict[str, Tensor], others: dict[str, Tensor]
    ) -> Iterator[tuple[slice, Map, Map]]:
        """Place of each piece of the kernel points, w ↦ Jᵀ w and u ↦ J u of its logits."""
        for X, _, place in self._pieces(self._points):
            logits, back = vjp(self._logits(X, others), parameters)[:2]
            # Jᵀ w is linear in w; its derivative towards u is J u.
            yield place, back, vjp(_first(back), torch.zeros_like(logits))[1]


def _repeatable(make: Callable[[], Iterator[Made]], rows: int) -> Callable[[], Iterable[Made]]:
    """Keep what is made where the points are few, else make it anew each time."""
    if rows > KEPT:
        return make
    kept = list(make())
    return lambda: kept


def _first(function: Map) -> Map:
    return lambda argument: function(argument)[0]


def _flat(parameters: dict[str, Tensor]) -> Tensor:
    return torch.cat([part.detach().reshape(-1) for part in parameters.values()])
