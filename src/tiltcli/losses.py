"""The dynamical losses as torch modules, for the torch engine and anyone's own training loop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tiltcli.schedule import Schedule


class _DynamicalLoss(nn.Module):
    """A loss whose class weights oscillate with the steps taken.

    The step counter `steps` is an int64 buffer, so that it is saved and restored with
    `state_dict` and moves with `to`. Γ comes from `tiltcli.schedule`, outside of any graph:
    `torch.compile` breaks its graph there and goes on, and refuses the loss with `fullgraph=True`.
    """

    steps: Tensor

    def __init__(
        self,
        num_classes: int,
        amplitude: float,
        period: int,
        rest: int = 0,
        settle_at: int | None = None,
        shape: str = "triangle",
        reduction: str = "mean",
        *,
        order: str = "cyclic",
        timing: str = "pulse",
        half_life: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"reduction must be mean, sum or none, not {reduction!r}")
        drawn = (order, "class", timing, half_life, seed)
        self.schedule = Schedule(num_classes, amplitude, period, rest, settle_at, shape, *drawn)
        self.reduction = reduction
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def step(self) -> None:
        """Count one optimiser step; call it after each `optimizer.step()`."""
        self.steps += 1

    def gamma(self) -> Tensor:
        """Class weights Γ at the present step: shape (num_classes,), float64, on the CPU."""
        return torch.from_numpy(self.schedule.gamma(int(self.steps)))

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _tilt(self) -> Tensor | None:
        """Γ, or None where all of them are 1."""
        gamma = self.gamma()
        return None if bool((gamma == 1).all()) else gamma

    def extra_repr(self) -> str:
        """Settings, as torch prints modules."""
        return f"{self.schedule}, reduction={self.reduction!r}"


class DynamicalCrossEntropy(_DynamicalLoss):
    """Cross-entropy whose class weights oscillate: F = (1/P) Σ_j Γ_{y_j}(t) · CE_j.

    Section 2 of "Tilting the playing field" (arXiv:2102.03793). A drop-in for
    `torch.nn.CrossEntropyLoss`: whenever all Γ are 1 (amplitude 1, at rest, settled) it is that
    very loss, to the last bit, values and gradients. P counts as torch's mean does: targets that
    are ignored do not count, and with `weight` each counts as its class's weight. Half-precision
    losses are reduced in float32.

    Args:
        num_classes: number of classes C ≥ 2.
        amplitude: peak raw weight A ≥ 1.
        period: steps of one pulse, T ≥ 1.
        rest: steps with Γ = 1 between pulses.
        settle_at: no oscillation from the first pulse boundary at or after this step, counted
            from 0 (a grid file's `loss.settle` counts from the end).
        shape: "triangle", "sine" or "square".
        reduction: "mean", "sum" or "none".
        weight: fixed weight of each class, shape (C,), as torch's; multiplies Γ.
        ignore_index: target that does not count.
        label_smoothing: from 0 to 1; Γ is that of the target's own class.
        order: "cyclic", or "random": every round of C pulses is a fresh permutation of the classes.
        timing: "pulse", or "noise": the weights of a step of the cycle drawn at random.
        half_life: steps after which A − 1 has halved; 0: it is constant.
        seed: of what is drawn.

    Raises:
        ValueError: if a setting is out of range.

    Example:
        >>> import torch
        >>> loss = DynamicalCrossEntropy(num_classes=3, amplitude=10, period=100)
        >>> value = loss(torch.zeros(4, 3), torch.tensor([0, 1, 2, 0]))
        >>> loss.step()

    """

    weight: Tensor | None

    def __init__(
        self,
        num_classes: int,
        amplitude: float,
        period: int,
        rest: int = 0,
        settle_at: int | None = None,
        shape: str = "triangle",
        reduction: str = "mean",
        *,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        order: str = "cyclic",
        timing: str = "pulse",
        half_life: int = 0,
        seed: int = 0,
    ) -> None:
        drawn: Any = {"order": order, "timing": timing, "half_life": half_life, "seed": seed}
        super().__init__(num_classes, amplitude, period, rest, settle_at, shape, reduction, **drawn)
        if weight is not None and weight.shape != (num_classes,):
            raise ValueError(f"weight must have shape ({num_classes},), not {tuple(weight.shape)}")
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing must be from 0 to 1, not {label_smoothing!r}")
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss at the present step.

        Args:
            logits: (C), (N, C) or (N, C, …), floating point.
            target: class indices: a scalar, (N) or (N, …), int64. With amplitude 1 also class
                probabilities, of the logits' shape.

        Returns:
            a scalar, or with reduction "none" a tensor of the target's shape.

        Raises:
            ValueError: if the logits have another number of classes than the loss, or targets are
                class probabilities, whose samples have no one class that could be emphasised.

        """
        classes = logits.shape[1 if logits.ndim > 1 else 0]
        if classes != self.schedule.classes:
            raise ValueError(f"logits have {classes} classes, the loss {self.schedule.classes}")
        probabilities = target.is_floating_point()
        if probabilities and self.schedule.amplitude != 1:
            raise ValueError(
                f"targets are {target.dtype}, class probabilities; with amplitude above 1 they "
                "must be class indices (int64)"
            )
        # Asked for only where it can differ from 1: a static loss stays a whole graph.
        gamma: Tensor | None = None if self.schedule.amplitude == 1 else self._tilt()
        each = functional.cross_entropy(
            logits,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            reduction=self.reduction if gamma is None else "none",
        )
        if gamma is None:
            return each
        counted = target != self.ignore_index
        labels = torch.where(counted, target, 0).long()
        # A sum of many half-precision losses would lose its digits, or overflow.
        exact = torch.promote_types(each.dtype, torch.float32)
        weighted = each.to(exact) * gamma.to(device=each.device, dtype=exact)[labels]
        if self.reduction == "none":
            return weighted.to(each.dtype)
        total = weighted.sum()
        if self.reduction == "mean":
            counts = counted
            if self.weight is not None:
                counts = torch.where(counted, self.weight[labels].to(exact), 0)
            total = total / counts.sum()
        return total.to(each.dtype)


class DynamicalMSE(_DynamicalLoss):
    """Weighted squared error to the one-hot target: F = (1/P) Σ_j Γ_{y_j}(t) ‖z_j − e_{y_j}‖².

    The error of a sample is summed over its classes. As in arXiv:2410.10690.

    Args:
        num_classes: number of classes C ≥ 2.
        amplitude: peak raw weight A ≥ 1.
        period: steps of one pulse, T ≥ 1.
        rest: steps with Γ = 1 between pulses.
        settle_at: no oscillation from the first pulse boundary at or after this step, counted
            from 0 (a grid file's `loss.settle` counts from the end).
        shape: "triangle", "sine" or "square".
        reduction: "mean", "sum" or "none".
        order: "cyclic", or "random": every round of C pulses is a fresh permutation of the classes.
        timing: "pulse", or "noise": the weights of a step of the cycle drawn at random.
        half_life: steps after which A − 1 has halved; 0: it is constant.
        seed: of what is drawn.

    Raises:
        ValueError: if a setting is out of range.

    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss at the present step.

        Args:
            logits: (N, C), floating point.
            target: class indices (N), int64.

        Returns:
            a scalar, or with reduction "none" a tensor of shape (N,).

        Raises:
            ValueError: if the logits have another number of classes than the loss.

        """
        if logits.shape[-1] != self.schedule.classes:
            raise ValueError(
                f"logits have {logits.shape[-1]} classes, the loss {self.schedule.classes}"
            )
        each = sample_losses("mse", logits, target)
        each = each * self.gamma().to(device=each.device, dtype=each.dtype)[target]
        if self.reduction == "none":
            return each
        return each.mean() if self.reduction == "mean" else each.sum()


def sample_losses(base: str, logits: Tensor, target: Tensor) -> Tensor:
    """Unweighted loss of each sample, shape (N,): "cross_entropy" or "mse"."""
    if base == "cross_entropy":
        return functional.cross_entropy(logits, target, reduction="none")
    wanted = functional.one_hot(target, logits.shape[-1]).to(logits.dtype)
    return (logits - wanted).square().sum(dim=-1)
