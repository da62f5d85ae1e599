"""The class weights Γ_i(t) of the dynamical loss: the one definition that everything uses.

Ruiz-Garcia, Zhang, Schoenholz and Liu, "Tilting the playing field" (ICML 2021, arXiv:2102.03793),
section 2. No torch here: engines, torch modules and plots all ask this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64

SHAPES = ("triangle", "sine", "square")
ORDERS = ("cyclic", "random")
BLIND = "all"
"""The groups of the control that is blind to class."""

GROUPS = ("class", "random", BLIND)
TIMINGS = ("pulse", "noise")

_BY_CLASS = {"loss.groups": "class", "loss.order": "cyclic", "loss.timing": "pulse"}


def by_class(settings: Mapping[Any, Any]) -> bool:
    """Whether tilting is by class, in pulses, in turn, and so not one of the controls."""
    return all(settings.get(key, usual) == usual for key, usual in _BY_CLASS.items())


@dataclass(frozen=True)
class Schedule:
    """The oscillation of the class weights.

    During a pulse of `period` steps one class has the raw weight g(t') ≥ 1 and the others 1; then
    Γ_i = C g_i / Σ_k g_k, so that Σ_i Γ_i = C always. Classes take turns 0, 1, …, C−1, 0, ….
    With t' the steps since the pulse began and T the period:

    - triangle: g = 1 + 2(A−1) t'/T up to T/2, then 2A − 1 − 2(A−1) t'/T (the paper's);
    - sine: g = 1 + (A−1) sin(π t'/T), half a wave;
    - square: g = A throughout the pulse.

    `order`, `groups`, `timing` and `half_life` make the controls that tell what tilting adds.
    What they draw hangs on `seed` and the step alone, so that any steps can be asked for alone.

    Attributes:
        classes: number of classes C ≥ 2.
        amplitude: peak raw weight A ≥ 1; A = 1 is the static loss.
        period: steps of one pulse, T ≥ 1 (a whole number).
        rest: steps with Γ = 1 after each pulse; the authors' own code has exactly 1.
        settle_at: Γ = 1 from the first pulse boundary at or after this step; None: never.
        shape: "triangle", "sine" or "square".
        order: "cyclic"; or "random": every round of C pulses is a fresh permutation of the classes.
        groups: "class", or "random" (samples are split into groups whatever their labels, see
            `groups_of`): a weight for each; or "all": every class has the weight C g/(g + C − 1)
            of the emphasised one, which is a learning rate that oscillates, blind to class.
        timing: "pulse"; or "noise": at every step the weights are those of a step of the cycle
            (of C pulses and their rests) drawn uniformly: the same distribution, no period.
        half_life: steps after which A − 1 has halved, counted from step 0; 0: A is constant.
        seed: of what is drawn, ≥ 0.

    """

    classes: int
    amplitude: float
    period: int
    rest: int = 0
    settle_at: int | None = None
    shape: str = "triangle"
    order: str = "cyclic"
    groups: str = "class"
    timing: str = "pulse"
    half_life: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: if a setting is outside what the attributes allow.

        """
        if not 1 <= self.amplitude < np.inf:
            raise ValueError(f"amplitude must be a finite number ≥ 1, not {self.amplitude!r}")
        whole = {"classes": 2, "period": 1, "rest": 0, "half_life": 0, "seed": 0}
        for name, least in whole.items():
            given = getattr(self, name)
            if int(given) != given or given < least:
                raise ValueError(f"{name} must be an integer ≥ {least}, not {given!r}")
        if self.settle_at is not None and int(self.settle_at) != self.settle_at:
            raise ValueError(f"settle_at must be an integer or None, not {self.settle_at!r}")
        words = {"shape": SHAPES, "order": ORDERS, "groups": GROUPS, "timing": TIMINGS}
        for name, allowed in words.items():
            given = getattr(self, name)
            if given not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {given!r}")

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

    def emphasised(self, steps: npt.ArrayLike) -> Int64[np.ndarray, "*steps"]:
        """Return the class whose pulse each step lies in, shape of `steps`; −1 at rest or settled.

        With groups "random" it is the group; with groups "all" it says whose turn it would be.
        """
        return self._turns(_whole(steps))[0]

    def _turns(
        self, s: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Emphasised class (−1: none) and steps since its pulse began."""
        at = s
        if self.timing == "noise":
            at = (_drawn(self.seed, _NOISE, s) % np.uint64(self.classes * self.pulse)).astype(
                np.int64
            )
        turn, inside = np.divmod(at, self.pulse)
        round_, place = np.divmod(turn, int(self.classes))
        label = self._permuted(round_, place) if self.order == "random" else place
        active = inside < self.period
        if self.settled_from is not None:
            active &= s < self.settled_from
        return np.where(active, label, -1).astype(np.int64), inside

    def _permuted(
        self, round_: npt.NDArray[np.int64], place: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Class at a place of a round: each round's classes in the order of drawn keys."""
        rounds, which = np.unique(round_, return_inverse=True)
        counters = rounds[:, None] * int(self.classes) + np.arange(int(self.classes))
        orders = np.argsort(_drawn(self.seed, _ORDER, counters), axis=1, kind="stable")
        return np.asarray(orders[which.reshape(place.shape), place], dtype=np.int64)

    def gamma(self, steps: npt.ArrayLike) -> Float64[np.ndarray, "*steps {self.classes}"]:
        """Class weights at `steps`.

        Args:
            steps: optimiser steps s ≥ 0, integers of any shape.

        Returns:
            Γ as float64 of shape (*steps.shape, classes).

        Raises:
            ValueError: if a step is negative or not whole.

        """  # noqa: DOC502
        s = _whole(steps)
        label, inside = self._turns(s)
        peak: npt.NDArray[np.float64] = np.asarray(self.amplitude, dtype=np.float64)
        if self.half_life:
            peak = 1.0 + (peak - 1.0) * np.exp2(-s / self.half_life)
        with np.errstate(over="ignore", invalid="ignore"):  # an overflow ends as a divergence
            raw = np.where(label >= 0, self._raw(inside.astype(np.float64), peak), 1.0)
            # With one class at g and C−1 at 1 the sum Σ_k g_k is g + C − 1.
            scale = self.classes / (raw + (self.classes - 1))
            chosen = (raw * scale)[..., None]
        if self.groups == BLIND:
            return np.repeat(chosen, int(self.classes), axis=-1)
        weights = np.repeat(scale[..., None], int(self.classes), axis=-1)
        return np.where(label[..., None] == np.arange(int(self.classes)), chosen, weights)

    def _raw(
        self, t: npt.NDArray[np.float64], peak: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """Raw weight g(t') of the emphasised class, 0 ≤ t' < T; `peak` is A at each step."""
        rise = peak - 1.0
        if self.shape == "triangle":
            up = 1.0 + 2.0 * rise * t / self.period
            down = 2.0 * peak - 1.0 - 2.0 * rise * t / self.period
            return np.where(t < self.period / 2, up, down)
        if self.shape == "sine":
            return np.asarray(1.0 + rise * np.sin(np.pi * t / self.period), dtype=np.float64)
        return np.broadcast_to(peak, t.shape)


def groups_of(
    groups: str, labels: Int64[np.ndarray, " samples"], seed: int
) -> Int64[np.ndarray, " samples"]:
    """Return the group of each training sample, whose Γ weighs it, shape (P,).

    With groups "class" or "all" its class; with "random" samples are split once into groups of the
    classes' sizes, whatever their labels.
    """
    if groups != "random":
        return labels
    return np.random.default_rng([_GROUPS, seed]).permutation(labels)


def balance(
    labels: Int64[np.ndarray, " samples"], classes: int
) -> Float64[np.ndarray, " {classes}"]:
    """Return the weight of each class that makes all count alike: P / (classes there are · own).

    The Γ of a sample's class is multiplied by it (`loss.class_weight = "balanced"`); over the
    samples they average 1. It is scikit-learn's "balanced"; 1 of a class without samples.
    """
    sizes = np.bincount(labels, minlength=classes)
    return np.where(sizes > 0, len(labels) / (np.count_nonzero(sizes) * np.maximum(sizes, 1)), 1.0)


def gamma(
    step: npt.ArrayLike,
    *,
    num_classes: int,
    amplitude: float,
    period: int,
    rest: int = 0,
    settle_at: int | None = None,
    shape: str = "triangle",
    order: str = "cyclic",
    groups: str = "class",
    timing: str = "pulse",
    half_life: int = 0,
    seed: int = 0,
) -> Float64[np.ndarray, "*steps {num_classes}"]:
    """Class weights Γ_i(t) of the dynamical loss at one step or many.

    Args:
        step: optimiser step(s), integers ≥ 0, any shape.
        num_classes: C ≥ 2.
        amplitude: A ≥ 1.
        period: T ≥ 1, steps of a pulse.
        rest: steps with Γ = 1 between pulses.
        settle_at: no oscillation from the first pulse boundary at or after this step, counted
            from 0 (a grid file's `loss.settle` counts from the end).
        shape: "triangle", "sine" or "square".
        order: "cyclic" or "random".
        groups: "class", "random" or "all".
        timing: "pulse" or "noise".
        half_life: steps after which A − 1 has halved; 0: never.
        seed: of what is drawn at random; see `Schedule` for these five.

    Returns:
        float64 array of shape (*step.shape, num_classes); each row sums to num_classes, but for
        groups "all".

    Raises:
        ValueError: if a setting or a step is out of range.

    Example:
        >>> gamma(5, num_classes=2, amplitude=3, period=10).tolist()
        [1.5, 0.5]

    """  # noqa: DOC502
    drawn = (order, groups, timing, half_life, seed)
    return Schedule(num_classes, amplitude, period, rest, settle_at, shape, *drawn).gamma(step)


def _whole(steps: npt.ArrayLike) -> npt.NDArray[np.int64]:
    array: npt.NDArray[Any] = np.asarray(steps)
    whole = array.astype(np.int64)
    if (whole != array).any() or (whole < 0).any():
        raise ValueError("steps must be whole numbers ≥ 0")
    return whole


_ORDER, _NOISE, _GROUPS = 1, 2, 3
"""Streams of random numbers, so that none of them repeats another."""


def _drawn(seed: int, stream: int, counters: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Return random 64 bits for each counter.

    The output function of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) at the counter's place
    of a sequence that begins where the seed and the stream say: a number needs none before it.
    """
    with np.errstate(over="ignore"):
        start = _mixed(np.array([seed], np.uint64) * np.uint64(4) + np.uint64(stream))
        return _mixed(start + (counters.astype(np.uint64) + np.uint64(1)) * _GOLDEN)


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mixed(z: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
