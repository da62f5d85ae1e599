"""Instabilities by pulse: when in the oscillation of the loss they begin, and how curved it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tiltcli.analysis.instability import Thresholds, find_episodes
from tiltcli.analysis.periods import Cascade, cascade_of, window_labels
from tiltcli.schedule import Schedule

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
Window = tuple[int, int]

NEAR = 100
"""Steps between an onset and a probe up to which the probe is said to be "there"."""

CALM = 100
"""Steps that λ_max must have been below its bound before it can be said to cross it (again)."""


@dataclass(frozen=True)
class Curvature:
    """λ_max along a training, of the Hessian of F(·, t) or what else the bound is for."""

    steps: Whole  # probed ones, rising
    hessian_max: Array  # at them; NaN where it did not converge
    bound: Array | float  # what the optimiser is unstable above, at each probe or at all of them

    @property
    def shares(self) -> Array:
        """λ_max over its bound."""
        return np.asarray(self.hessian_max / self.bound)


@dataclass(frozen=True)
class Instability:
    """One instability of a training."""

    onset: int  # step at which it begins
    end: int | None  # step at which it is over; None: it lasts to the end of the training
    pulse: int | None  # of the onset, counted from 1; None where nothing oscillates
    label: int | None  # class emphasised at the onset; None at rest and where nothing oscillates
    t: int | None  # steps since that pulse began; None where there is none
    gamma: float  # Γ of the emphasised class at the onset; 1 without one
    hessian_max: float  # λ_max at the onset; NaN if nothing was probed near it
    share: float  # λ_max at the onset over its bound, λ_max / (2/η); NaN likewise
    crossing: int | None  # nearest step at which λ_max crosses the bound; None without any
    cascade: Cascade


def instabilities(
    losses: npt.ArrayLike,
    schedule: Schedule | None,
    curvature: Curvature | None,
    thresholds: Thresholds | None = None,
) -> list[Instability]:
    """Return the instabilities of a training from its losses F at steps 0, 1, 2, …."""
    F = np.asarray(losses, dtype=np.float64)
    crossed = [] if curvature is None else crossings(curvature)
    found = []
    for episode in find_episodes(F, thresholds):
        onset = episode.onset
        labels = window_labels(F, onset, episode.end or len(F), thresholds)[1]
        pulse = t = label = None
        gamma = 1.0
        if schedule is not None:
            label = int(schedule.emphasised(onset))
            settled = schedule.settled_from is not None and onset >= schedule.settled_from
            if not settled:
                pulse, t = onset // schedule.pulse + 1, onset % schedule.pulse
            label = label if label >= 0 else None
            gamma = float(schedule.gamma(onset)[label]) if label is not None else 1.0
        height, share = (np.nan, np.nan) if curvature is None else hessian_near(curvature, onset)
        found.append(
            Instability(
                onset,
                episode.end,
                pulse,
                label,
                t,
                gamma,
                height,
                share,
                min(crossed, key=lambda step: abs(step - onset), default=None),
                cascade_of(labels),
            )
        )
    return found


def hessian_near(curvature: Curvature, step: int) -> tuple[float, float]:
    """Return λ_max at a step, and over its bound: the higher of the probes just before and after.

    On a 2-cycle λ_max goes back and forth between two branches, so one probe alone may show the
    lower; two that are an odd number of steps apart show both. NaN without probes within 100 steps.
    """
    after = int(np.searchsorted(curvature.steps, step, side="right"))
    heights, shares = curvature.hessian_max, curvature.shares
    near = [
        (float(heights[i]), float(shares[i]))
        for i in (after - 1, after)
        if 0 <= i < len(heights) and abs(curvature.steps[i] - step) <= NEAR
    ]
    return max((pair for pair in near if not np.isnan(pair).any()), default=(np.nan, np.nan))


def crossings(curvature: Curvature, factor: float = 1.0) -> list[int]:
    """Return the steps at which λ_max climbs through its bound, after at least 100 steps below it.

    With a factor, through so many times the bound. The calm before is what tells a crossing from
    the back and forth between the branches of an instability that is under way; the step is
    interpolated between the last probe below and the first above.
    """
    known = ~np.isnan(curvature.shares)
    steps, shares = curvature.steps[known], curvature.shares[known]
    found: list[int] = []
    calm_since: int | None = None
    for i, (step, share) in enumerate(zip(steps.tolist(), shares.tolist(), strict=True)):
        if share < factor:
            calm_since = step if calm_since is None else calm_since
            continue
        if calm_since is not None and i and int(steps[i - 1]) - calm_since >= CALM:
            passed = (factor - shares[i - 1]) / (share - shares[i - 1])
            found.append(round(float(steps[i - 1] + passed * (step - steps[i - 1]))))
        calm_since = None
    return found


def richest(found: Sequence[Instability], whole: Window) -> list[Instability]:
    """Sort instabilities: those with the longest cascades first, of equals the longest."""
    return sorted(
        found,
        key=lambda one: (len(one.cascade.periods), (one.end or whole[1]) - one.onset),
        reverse=True,
    )


def window_around(one: Instability, whole: Window) -> Window:
    """First and last step of a picture of an instability, with some steps before and after it."""
    end = one.end or whole[1]
    around = max(40, (end - one.onset) // 8)
    return max(whole[0], one.onset - around), min(whole[1], end + around)
