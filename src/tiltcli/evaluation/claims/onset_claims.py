"""The paper's claims about instabilities: where they begin, and with which periods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tiltcli.analysis.instability import Thresholds, swings
from tiltcli.analysis.periods import Cascade, cascade_of, window_labels
from tiltcli.analysis.pulses import Instability, crossings
from tiltcli.analysis.traces import Trace
from tiltcli.evaluation.claims.verdicts import Finding
from tiltcli.evaluation.texts import ranged
from tiltcli.statistics import mean_interval, permutation_test, proportion_interval

Array = npt.NDArray[np.float64]

FACTORS = tuple(round(0.8 + 0.02 * k, 2) for k in range(21))
"""Multiples of the bound whose crossings the onsets are held against."""

ASIDE = (0.9, 1.1)
"""Those that must fit worse than the bound itself, for it to be the bound."""

BEGIN = "Instabilities begin where λ_max of the current loss crosses the bound (2/η)"
FACTOR = "They begin at the bound, not at another multiple of it"
DOUBLING = "Instabilities begin as period doubling in F(t)"
ONWARD = "Period doubling goes on to period 4 and more"


def instability_claims(traces: Sequence[Trace], base: str = "") -> list[Finding]:
    """Judge where instabilities begin, and whether they are period doublings.

    The training is the unit. Of each: the distance of its onsets from its own crossings, and from
    those of each other training (the null: all have the same pulses), see `onset_scan`. Then the
    periods: whether most of its instabilities begin with period 2, and whether any goes on to 4,
    8 or 16; beside it the same of their swings in shuffled order.

    Args:
        traces: dynamical trainings of one setting, over seeds; those without single steps, or
            without λ_max and a bound for it, are left out.
        base: what to say of the loss, such as " in mse".

    Returns:
        four findings; none from fewer than two trainings, or without any instability.

    """
    kept = [one for one in traces if one.schedule and one.curvature]
    kept = [one for one in kept if one.why_not_single_steps() is None]
    found = [one.instabilities() for one in kept]
    if len(kept) < 2 or not any(found):
        return []
    own, others = onset_scan(kept, found)
    return [
        _begin(own, others, base),
        _factor(own, _later(kept, found), base),
        *_periods(kept, found, base),
    ]


def onset_scan(
    traces: Sequence[Trace], found: Sequence[Sequence[Instability]]
) -> tuple[Array, ...]:
    """Distances of onsets and crossings, at each of `FACTORS` times the bound.

    Args:
        traces: dynamical trainings.
        found: the instabilities of each.

    Returns:
        of own crossings, and the mean of those of each other training: `distance`, steps, each of
        shape (trainings, factors); NaN for a training that has neither.

    """
    shape = len(traces), len(traces), len(FACTORS)
    table = np.full(shape, np.nan)
    onsets = [[one.onset for one in each] for each in found]
    for j, other in enumerate(traces):
        assert other.curvature is not None
        assert other.schedule is not None
        for k, factor in enumerate(FACTORS):
            crossed = crossings(other.curvature, factor)
            for i in range(len(traces)):
                table[i, j, k] = distance(onsets[i], crossed, other.schedule.period / 2)
    own = np.array([table[i, i] for i in range(len(traces))])
    apart = ~np.eye(len(traces), dtype=bool)
    return own, np.array([_mean(table[i, apart[i]]) for i in range(len(traces))])


def distance(onsets: Sequence[int], crossed: Sequence[int], most: float) -> float:
    """Mean distance of each onset from the nearest crossing, and of each crossing from an onset.

    What fails to come counts as what comes in the wrong place does, up to a bound.

    Args:
        onsets: steps.
        crossed: steps.
        most: steps that a distance counts at most, also where there is nothing to be near to.

    Returns:
        steps; NaN where there is neither onset nor crossing.

    """
    if not len(onsets) and not len(crossed):
        return np.nan
    if not len(onsets) or not len(crossed):
        return most
    apart = np.abs(np.subtract.outer(np.asarray(onsets, float), np.asarray(crossed, float)))
    nearest = np.concatenate([apart.min(axis=1), apart.min(axis=0)])
    return float(np.minimum(nearest, most).mean())


def _begin(own: Array, others: Array, base: str) -> Finding:
    at = FACTORS.index(1.0)
    nearer = others[:, at] - own[:, at]
    known = ~np.isnan(own).any(axis=1)
    each = [FACTORS[int(row.argmin())] for row in own[known]]
    best, null = (int(_mean(table).argmin()) for table in (own, others))
    return Finding(
        BEGIN,
        f"steps between onsets and crossings, other trainings' crossings − own{base}: of 0.8 to "
        "1.2 times the bound the own crossings agree best at "
        f"{FACTORS[best]:.2f} ({_mean(own)[best]:.0f} steps), by training "
        f"{ranged(mean_interval(each))}; those of others at {FACTORS[null]:.2f} "
        f"({_mean(others)[null]:.0f} steps)",
        mean_interval(nearer),
        permutation_test(nearer),
        "trainings",
        beside=f"at the bound own crossings {_mean(own[:, at]):.0f} steps, others' "
        f"{_mean(others[:, at]):.0f}",
    )


def _factor(own: Array, later: float, base: str) -> Finding:
    low, at, high = (own[:, FACTORS.index(one)] for one in (ASIDE[0], 1.0, ASIDE[1]))
    worse = np.minimum(low, high) - at
    return Finding(
        FACTOR,
        f"steps between onsets and own crossings, the lesser at {ASIDE[0]} and at {ASIDE[1]} times "
        f"the bound − at the bound{base}: the onset is when growth "
        f"passes the detector's threshold; twice the threshold, {later:+.0f} steps in the median",
        mean_interval(worse),
        permutation_test(worse),
        "trainings",
        beside=f"{_mean(low):.0f} steps at {ASIDE[0]}, {_mean(at):.0f} at 1, "
        f"{_mean(high):.0f} at {ASIDE[1]} times the bound",
    )


def _later(traces: Sequence[Trace], found: Sequence[Sequence[Instability]]) -> float:
    """Median of how much later an instability begins by a threshold twice as high; NaN if none."""
    usual = Thresholds()
    moved = []
    for one, own in zip(traces, found, strict=True):
        onsets = [each.onset for each in one.instabilities(replace(usual, swing=2 * usual.swing))]
        moved += [
            min(onsets, key=lambda s: abs(s - each.onset)) - each.onset for each in own if onsets
        ]
    return float(np.median(moved)) if moved else np.nan


def _periods(
    traces: Sequence[Trace], found: Sequence[Sequence[Instability]], base: str
) -> list[Finding]:
    pairs = [(one, own) for one, own in zip(traces, found, strict=True) if own]
    seen = [[each.cascade for each in own] for _, own in pairs]
    mixed = [[shuffled(one, each) for each in own] for one, own in pairs]
    everyone = [one for own in seen for one in own]
    total, trainings = len(everyone), len(seen)
    most = sum(2 * sum(one.first == 2 for one in own) > len(own) for own in seen)
    onward = sum(any(map(_goes_on, own)) for own in seen)
    begun = sum(one.first == 2 for one in everyone)
    null_begun = sum(one.first == 2 for own in mixed for one in own)
    longer = sum(map(_goes_on, everyone))
    null_longer = sum(_goes_on(one) for own in mixed for one in own)
    irregular, quasi = (
        sum(map(bool, flags))
        for flags in zip(*((one.irregular, one.quasi) for one in everyone), strict=True)
    )
    return [
        Finding(
            DOUBLING,
            f"share of trainings most of whose instabilities begin with period 2{base}: {begun} of "
            f"{total} instabilities do",
            proportion_interval(most, trainings),
            np.nan,
            "trainings",
            0.5,
            f"with their swings in shuffled order {null_begun} of {total}",
        ),
        Finding(
            ONWARD,
            f"share of trainings in which an instability has period 4, 8 or 16{base}: {longer} of "
            f"{total} instabilities have; {irregular} become irregular, {quasi} quasi-periodic",
            proportion_interval(onward, trainings),
            np.nan,
            "trainings",
            0.5,
            f"with their swings in shuffled order {null_longer} of {total}",
        ),
    ]


def _goes_on(one: Cascade) -> bool:
    return any(period in one.periods for period in (4, 8, 16))


def shuffled(one: Trace, found: Instability) -> Cascade:
    """Return the cascade of an instability whose swings came in a random order."""
    losses = one.step_losses()
    own = swings(losses)[found.onset : found.end or len(losses) - 1]
    mixed = np.random.default_rng(found.onset).permutation(own)
    return cascade_of(window_labels(mixed, 0, len(mixed))[1])


def _mean(values: Array) -> Array:
    """Mean over the trainings that have a value; NaN without any."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))
