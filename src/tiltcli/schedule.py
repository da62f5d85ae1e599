"""The class weights Γ_i(t) of the dynamical loss: the one definition that everything uses.

Ruiz-Garcia, Zhang, Schoenholz and Liu, "Tilting the playing field" (ICML 2021, arXiv:2102.03793),
section 2. No torch here: engines, torch modules and plots all ask this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

SHAPES = ("triangle", "sine", "square")


@dataclass(frozen=True)
class Schedule:
    """The oscillation of the class weights.

    During a pulse of `period` steps one class has the raw weight g(t') ≥ 1 and the others 1; then
    Γ_i = C g_i / Σ_k g_k, so that Σ_i Γ_i = C always. Classes take turns 0, 1, …, C−1, 0, ….
    With t' the steps since the pulse began and T the period:

    - triangle: g = 1 + 2(A−1) t'/T up to T/2, then 2A − 1 − 2(A−1) t'/T (the paper's);
    - sine: g = 1 + (A−1) sin(π t'/T), half a wave;
    - square: g = A throughout the pulse.

    Attributes:
        classes: number of classes C ≥ 2.
        amplitude: peak raw weight A ≥ 1; A = 1 is the static loss.
        period: steps of one pulse, T ≥ 1 (a whole number).
        rest: steps with Γ = 1 after each pulse; the authors' own code has exactly 1.
        settle_at: Γ = 1 from the first pulse boundary at or after this step; None: never.
        shape: "triangle", "sine" or "square".

    """

    classes: int
    amplitude: float
    period: int
    rest: int = 0
    settle_at: int | None = None
    shape: str = "triangle"

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: if a setting is outside what the attributes allow.

        """
        if int(self.classes) != self.classes or self.classes < 2:
            raise ValueError(f"classes must be an integer ≥ 2, not {self.classes!r}")
        if not 1 <= self.amplitude < np.inf:
            raise ValueError(f"amplitude must be a finite number ≥ 1, not {self.amplitude!r}")
        if int(self.period) != self.period or self.period < 1:
            raise ValueError(f"period must be an integer ≥ 1, not {self.period!r}")
        if int(self.rest) != self.rest or self.rest < 0:
            raise ValueError(f"rest must be an integer ≥ 0, not {self.rest!r}")
        if self.settle_at is not None and int(self.settle_at) != self.settle_at:
            raise ValueError(f"settle_at must be an integer or None, not {self.settle_at!r}")
        if self.shape not in SHAPES:
            raise ValueError(f"shape must be one of {', '.join(SHAPES)}, not {self.shape!r}")

    @property
    def pulse(self) -> int:
        """Steps from one pulse's beginning to the next: period + rest."""
        return int(self.period) + int(self.rest)

    @property
    def settled_from(self) -> int | None:
        """First step from which Γ = 1 for good: a pulse boundary; None if never."""
        if self.settle_at is None:
            return None
        return -(-max(int(self.settle_at), 0) // self.pulse) * self.pulse

    def emphasised(self, steps: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Class whose pulse each step lies in, shape of `steps`; −1 at rest and when settled."""
        s = _whole(steps)
        inside = s % self.pulse
        label = (s // self.pulse) % int(self.classes)
        active = inside < self.period
        if self.settled_from is not None:
            active &= s < self.settled_from
        return np.where(active, label, -1).astype(np.int64)

    def gamma(self, steps: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Class weights at `steps`.

        Args:
            steps: optimiser steps s ≥ 0, integers of any shape.

        Returns:
            Γ as float64 of shape (*steps.shape, classes).

        Raises:
            ValueError: if a step is negative or not whole.

        """
        s = _whole(steps)
        label = self.emphasised(s)
        raw = np.where(label >= 0, self._raw((s % self.pulse).astype(np.float64)), 1.0)
        # With one class at g and C−1 at 1 the sum Σ_k g_k is g + C − 1.
        scale = self.classes / (raw + (self.classes - 1))
        weights = np.repeat(scale[..., None], int(self.classes), axis=-1)
        chosen = label[..., None] == np.arange(int(self.classes))
        return np.where(chosen, (raw * scale)[..., None], weights)

    def _raw(self, t: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Raw weight g(t') of the emphasised class, 0 ≤ t' < T."""
        rise = self.amplitude - 1.0
        if self.shape == "triangle":
            up = 1.0 + 2.0 * rise * t / self.period
            down = 2.0 * self.amplitude - 1.0 - 2.0 * rise * t / self.period
            return np.where(t < self.period / 2, up, down)
        if self.shape == "sine":
            return np.asarray(1.0 + rise * np.sin(np.pi * t / self.period), dtype=np.float64)
        return np.full_like(t, self.amplitude)


def gamma(
    step: npt.ArrayLike,
    *,
    num_classes: int,
    amplitude: float,
    period: int,
    rest: int = 0,
    settle_at: int | None = None,
    shape: str = "triangle",
) -> npt.NDArray[np.float64]:
    """Class weights Γ_i(t) of the dynamical loss at one step or many.

    Args:
        step: optimiser step(s), integers ≥ 0, any shape.
        num_classes: C ≥ 2.
        amplitude: A ≥ 1.
        period: T ≥ 1, steps of a pulse.
        rest: steps with Γ = 1 between pulses.
        settle_at: no oscillation from the first pulse boundary at or after this step.
        shape: "triangle", "sine" or "square".

    Returns:
        float64 array of shape (*step.shape, num_classes); each row sums to num_classes.

    Raises:
        ValueError: if a setting or a step is out of range.

    Example:
        >>> gamma(5, num_classes=2, amplitude=3, period=10).tolist()
        [1.5, 0.5]

    """
    return Schedule(num_classes, amplitude, period, rest, settle_at, shape).gamma(step)


def _whole(steps: npt.ArrayLike) -> npt.NDArray[np.int64]:
    array: npt.NDArray[Any] = np.asarray(steps)
    whole = array.astype(np.int64)
    if (whole != array).any() or (whole < 0).any():
        raise ValueError("steps must be whole numbers ≥ 0")
    return whole
