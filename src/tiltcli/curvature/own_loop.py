"""Curvature of any torch model and loss, for somebody's own training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tiltcli.curvature import spectrum
from tiltcli.curvature.lanczos import (
    Product,
    extreme_eigenvalues,
    kernel_columns,
    preconditioned,
)
from tiltcli.curvature.spectrum import NODES, SIGNS, VECTORS, Density, Estimate
from tiltcli.engines.base import adam_diagonal
from tiltcli.errors import UserError, with_suggestion

Array = npt.NDArray[np.float64]

MEASURES = ("hessian", "ntk")
"""What `Curvature.measure` takes."""


class Curvature:
    """Curvature of a model's loss on some data, at the weights that the model has when asked.

    Products are made by differentiating twice, batch by batch, on the model's device and in its
    dtype, so any module and loss will do that torch can differentiate twice. The model is put into
    evaluation for them and back; neither its weights nor their gradients change.

    Args:
        model: the model.
        loss: called as `loss(model(inputs), target)`; the mean over a batch's samples.
        data: one batch, a pair of inputs and target, or a collection of batches that can be gone
            through again and gives the same samples, such as a DataLoader. Inputs are a tensor, or
            a sequence or mapping of tensors, given to the model as arguments.
        parameters: what of the model to vary; None for all that is trained.

    Raises:
        UserError: if nothing is trained, or `data` can be gone through once only.

    Example:
        >>> import torch, tiltcli
        >>> model, X = torch.nn.Linear(2, 1).double(), torch.tensor([[3.0, 0.0]]).double()
        >>> curvature = tiltcli.Curvature(model, torch.nn.MSELoss(), (X, torch.zeros(1, 1)))
        >>> round(curvature.sharpness(), 6)
        20.0

    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Any, Any], Tensor],
        data: Iterable[Any],
        parameters: Iterable[Tensor] | None = None,
    ) -> None:
        self._model, self._loss = model, loss
        varied = model.parameters() if parameters is None else parameters
        self._parameters = [p for p in varied if p.requires_grad]
        if not self._parameters:
            raise UserError("parameters: none of them is trained (requires_grad)")
        if isinstance(data, Iterator):
            raise UserError("data: an iterator is empty after once; give a list or a DataLoader")
        pair = isinstance(data, Sequence) and len(data) == 2 and isinstance(data[1], Tensor)
        self._data: Iterable[Any] = [data] if pair else data
        self._size = sum(p.numel() for p in self._parameters)
        self._tolerance = float(torch.finfo(self._parameters[0].dtype).eps) ** 0.5

    def sharpness(self) -> float:
        """Largest eigenvalue of the Hessian; NaN if it does not converge."""
        return float(self.eigenvalues()[0])

    def eigenvalues(self, top: int = 1, bottom: int = 0) -> Array:
        """Extreme eigenvalues of the Hessian.

        Args:
            top: how many of the largest.
            bottom: how many of the smallest.

        Returns:
            shape (top + bottom,): the largest, falling, then the smallest, rising; NaN for what
            did not converge.

        """
        with self._evaluating():
            return extreme_eigenvalues(self._hessian(), self._size, top, bottom, self._tolerance)

    def trace(self, vectors: int = SIGNS) -> Estimate:
        """Return the trace of the Hessian by Hutchinson's estimate, with its standard error.

        Args:
            vectors: of random signs, at least 2.

        """
        with self._evaluating():
            return spectrum.trace(self._hessian(), self._size, vectors)

    def density(self, vectors: int = VECTORS, nodes: int = NODES) -> Density:
        """Return the density of the Hessian's eigenvalues by stochastic Lanczos quadrature.

        Args:
            vectors: random directions, at least 2.
            nodes: products with each.

        """
        with self._evaluating():
            return spectrum.density(self._hessian(), self._size, vectors, nodes)

    def batch_sharpness(self) -> float:
        """Mean of gᵀ H g / ‖g‖² over the batches, g and H the gradient and Hessian of each."""
        found = []
        with self._evaluating():
            for _, loss in self._losses():
                slope = self._slope(loss)
                g = self._flat(slope)
                if square := float(g @ g):
                    found.append(float(g @ self._along(slope, g)) / square)
        return float(np.mean(found)) if found else float("nan")

    def preconditioned_sharpness(self, optimizer: torch.optim.Optimizer) -> float:
        """Return the largest eigenvalue of P^(−1/2) H P^(−1/2), P as Adam and AdamW divide by.

        P = (1 − β₁ᵗ)(√v̂ + ε) after the updates made; what is compared with
        (2 + 2β₁)/((1 − β₁)η), see Cohen et al. 2022, arXiv:2207.14484.

        Args:
            optimizer: `torch.optim.Adam` or `AdamW`, after its first step.

        Raises:
            UserError: if it has no second moments of a parameter.

        """
        settings = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        diagonal = []
        for parameter in self._parameters:
            state = optimizer.state.get(parameter, {})
            if "exp_avg_sq" not in state:
                raise UserError("optimizer: has no second moments of a parameter; has it stepped?")
            group, updates = settings[id(parameter)], int(state["step"])
            first, second = group["betas"]
            powers = first**updates, second**updates, group["eps"]
            diagonal.append(adam_diagonal(state["exp_avg_sq"], *powers))
        with self._evaluating():
            product = preconditioned(self._hessian(), self._flat(diagonal))
            return float(extreme_eigenvalues(product, self._size, 1, 0, self._tolerance)[0])

    def ntk(self) -> dict[str, float]:
        """Largest eigenvalues of the tangent kernel on all samples; NaN for what did not converge.

        Returns:
            `ntk_max`, of K[x, x'] = (1/C) Σ_k Σ_p ∂z_k(x)/∂p ∂z_k(x')/∂p with C outputs z, and
            `ntk_max_full`, of the kernel of all outputs, not divided by C.

        """
        with self._evaluating():
            batches = list(self._data)
            shapes = [self._output(batch).shape for batch in batches]
            rows, outputs = sum(s[0] for s in shapes), int(np.prod(shapes[0][1:]))

            def full(v: Array) -> Array:
                parts = np.split(v.reshape(rows, outputs), np.cumsum([s[0] for s in shapes])[:-1])
                total = np.zeros(self._size)
                for batch, part in zip(batches, parts, strict=True):
                    z = self._output(batch)
                    weights = torch.from_numpy(part).to(z).reshape(z.shape)
                    total += self._flat(self._slope(z, weights, graph=False))
                found = []
                for batch in batches:
                    z = self._output(batch)
                    weights = torch.zeros_like(z, requires_grad=True)
                    # Jᵀ w is linear in w; its derivative towards u is J u.
                    back = self._slope(z, weights)
                    (ahead,) = torch.autograd.grad(self._dot(back, total), weights)
                    found.append(ahead.detach().double().cpu().numpy().reshape(-1, outputs))
                return np.concatenate(found).ravel()

            return kernel_columns(full, rows, outputs, tolerance=self._tolerance)

    def groups(
        self,
        groups: torch.optim.Optimizer | Mapping[str, nn.Module | Iterable[Tensor]] | None = None,
    ) -> dict[str, Curvature]:
        """Return the curvature of each group of parameters alone: the Hessian's diagonal blocks.

        Args:
            groups: name → module or parameters; an optimiser, for its groups, by their "name" or
                number; None for the model's children.

        """
        if groups is None:
            groups = dict(self._model.named_children())
        elif isinstance(groups, torch.optim.Optimizer):
            every = enumerate(groups.param_groups)
            groups = {str(one.get("name", number)): one["params"] for number, one in every}
        found = {}
        for name, group in groups.items():
            some = list(group.parameters() if isinstance(group, nn.Module) else group)
            if any(p.requires_grad for p in some):
                found[name] = Curvature(self._model, self._loss, self._data, some)
        return found

    def measure(self, *quantities: str) -> dict[str, float]:
        """Return measures under the names of a run's probes, a row to log.

        Args:
            quantities: "hessian", "ntk"; the former where none is named.

        Raises:
            UserError: for an unknown one.

        """
        row: dict[str, float] = {}
        for quantity in quantities or MEASURES[:1]:
            if quantity not in MEASURES:
                raise UserError(with_suggestion(f"got {quantity!r}", quantity, MEASURES))
            if quantity == "ntk":
                row |= self.ntk()
                continue
            row["hessian_max"], row["hessian_min"] = self.eigenvalues(1, 1).tolist()
            row["hessian_trace"], row["hessian_trace_error"] = self.trace()
        return row

    @staticmethod
    def callback(
        loss: Callable[[Any, Any], Tensor],
        data: Iterable[Any],
        every: int = 100,
        quantities: Sequence[str] = MEASURES[:1],
    ) -> Any:
        """Return a callback for Lightning's Trainer that measures and logs along a training.

        Args:
            loss: as of the class; the model is the LightningModule.
            data: as of the class.
            every: optimiser steps between measures.
            quantities: see `measure`.

        Returns:
            a `lightning.pytorch.Callback`; logs `curvature/hessian_max` and so on, and keeps them
            as a list of dicts, `rows`.

        Raises:
            UserError: without Lightning.

        """
        try:
            from lightning.pytorch import Callback
        except ImportError:
            raise UserError(
                "Lightning is not installed: pip install 'tiltcli[lightning]'"
            ) from None

        class CurvatureCallback(Callback):
            def __init__(self) -> None:
                self.rows: list[dict[str, float]] = []

            def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
                step = int(trainer.global_step)
                if step % every or (self.rows and self.rows[-1]["step"] == step):
                    return
                found = Curvature(pl_module, loss, data).measure(*quantities)
                self.rows.append({"step": step} | found)
                pl_module.log_dict({f"curvature/{name}": value for name, value in found.items()})

        return CurvatureCallback()

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        modes = [(module, module.training) for module in self._model.modules()]
        self._model.eval()
        try:
            with torch.inference_mode(False), torch.enable_grad():
                yield
        finally:
            for module, training in modes:
                module.training = training

    def _output(self, batch: Any) -> Tensor:
        inputs = self._here(batch[0])
        if isinstance(inputs, Mapping):
            return self._model(**inputs)  # type: ignore[no-any-return]
        return self._model(inputs) if isinstance(inputs, Tensor) else self._model(*inputs)  # type: ignore[no-any-return]

    def _here(self, value: Any) -> Any:
        """Tensors on the model's device, real numbers in its dtype."""
        like = self._parameters[0]
        if isinstance(value, Mapping):
            return {name: self._here(one) for name, one in value.items()}
        if not isinstance(value, Tensor):
            return [self._here(one) for one in value]
        return value.to(like) if value.is_floating_point() else value.to(like.device)

    def _losses(self) -> Iterator[tuple[int, Tensor]]:
        """Samples of each batch and its loss."""
        for batch in self._data:
            target = self._here(batch[1])
            yield len(target), self._loss(self._output(batch), target)

    def _hessian(self) -> Product:
        count = sum(len(batch[1]) for batch in self._data)

        def slopes() -> Iterator[Sequence[Tensor]]:
            for samples, loss in self._losses():
                yield self._slope(loss * (samples / count))

        # What a single batch needs is kept from one product to the next.
        single = isinstance(self._data, list) and len(self._data) == 1
        kept = list(slopes()) if single else None

        def product(v: Array) -> Array:
            total = np.zeros(self._size)
            for slope in slopes() if kept is None else kept:
                total += self._along(slope, v)
            return total

        return product

    def _slope(
        self, values: Tensor, weights: Tensor | None = None, graph: bool = True
    ) -> Sequence[Tensor]:
        return torch.autograd.grad(
            values, self._parameters, weights, create_graph=graph, materialize_grads=True
        )

    def _dot(self, parts: Sequence[Tensor], v: Array) -> Tensor:
        total, begin = torch.zeros((), device=parts[0].device, dtype=parts[0].dtype), 0
        for part in parts:
            piece = torch.from_numpy(v[begin : begin + part.numel()]).to(part).reshape(part.shape)
            total, begin = total + (part * piece).sum(), begin + part.numel()
        return total

    def _along(self, slope: Sequence[Tensor], v: Array) -> Array:
        """Derivative of a gradient towards v."""
        value = self._dot(slope, v)
        if not value.requires_grad:  # of a linear function
            return np.zeros(self._size)
        found = torch.autograd.grad(
            value, self._parameters, retain_graph=True, materialize_grads=True
        )
        return self._flat(found)

    def _flat(self, parts: Sequence[Tensor]) -> Array:
        flat = torch.cat([part.detach().reshape(-1) for part in parts])
        return np.asarray(flat.double().cpu().numpy())
