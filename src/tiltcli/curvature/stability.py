"""Where an optimiser becomes unstable on a quadratic: the curvature that its learning rate bears.

Largest stable eigenvalue of the Hessian: gradient descent with momentum β (heavy ball) and
Nesterov's, Cohen et al. 2021 (arXiv:2103.00065); of the preconditioned Hessian for Adam and AdamW,
Cohen et al. 2022 (arXiv:2207.14484); of the batch sharpness for minibatches of plain gradient
descent, Andreyev and Beneventano 2024 (arXiv:2412.20553). A decay in the gradient adds itself to
the curvature; AdamW's, which shrinks the parameters by 1 − η·decay, takes decay·(1+β₁)/(1−β₁) off
the bound (the root −1 of the characteristic polynomial in both cases).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BETA = 0.9
"""Adam's β₁, torch's default."""


@dataclass(frozen=True)
class Bound:
    """Curvature above which an optimiser is unstable, as a function of its learning rate η.

    Attributes:
        per_rate: c in c/η − offset.
        offset: what weight decay takes off.
        formula: of it, as figures and tables say it.
        column: of the probes table, that it is a bound for.

    """

    per_rate: float
    offset: float
    formula: str
    column: str = "hessian_max"

    def at(self, rate: float) -> float:
        """Return the bound at a learning rate; infinite at 0."""
        return self.per_rate / rate - self.offset if rate > 0 else float("inf")

    def rate_of(self, height: float) -> float:
        """Learning rate at which a curvature becomes unstable; NaN if none does."""
        edge = height + self.offset
        return self.per_rate / edge if edge > 0 else float("nan")


def stability_bound(settings: Mapping[str, Any]) -> Bound | None:
    """Return the bound of a job's optimiser; None for minibatches with momentum or Adam."""
    size = settings.get("train.batch_size")
    batches = isinstance(size, (int, float)) and size == size  # neither "full" nor null
    decay = float(settings.get("train.weight_decay") or 0.0)
    kind = settings["train.optimizer"]
    if kind != "sgd":
        if batches:
            return None
        formula, offset = "(2+2β₁)/((1−β₁)η)", 0.0
        if kind == "adamw" and decay:
            offset = decay * (1 + BETA) / (1 - BETA)
            formula += " − decay·(1+β₁)/(1−β₁)"
        return Bound((2 + 2 * BETA) / (1 - BETA), offset, formula, "hessian_max_preconditioned")
    beta = float(settings.get("train.momentum") or 0.0)
    less = " − decay" if decay else ""
    if batches:
        return None if beta else Bound(2.0, decay, "2/η" + less, "batch_sharpness")
    if beta and settings.get("train.nesterov"):
        rate = 2 * (1 + beta) / (1 + 2 * beta)
        return Bound(rate, decay, "2(1+β)/(η(1+2β))" + less)
    return Bound(2 * (1 + beta), decay, ("2(1+β)/η" if beta else "2/η") + less)
