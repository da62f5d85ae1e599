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
from tiltcli.evaluation.claims import Finding
from tiltcli.evaluation.texts import ranged
from tiltcli.statistics import mean_interval, proportion_interval

Array = npt.NDArray[np.float64]

FACTORS = tuple(round(0.8 + 0.02 * k, 2) for k in range(21))
"""Multiples of the bound whose crossings the onsets are held against."""

ASIDE = (0.9, 1.1)
"""Those that must fit worse than the bound itself, for it to be the bound."""

BEGIN = "Instabilities begin where λ_max of the current loss crosses the bound (2/η)"
DOUBLING = "Instabilities are period doublings in F(t)"


def instability_claims(traces: Sequence[Trace], base: str = "") -> list[Finding]:
    """Return four findings on where instabilities begin, and whether they are period doublings.

    The training is the unit. Of each: the distance of its onsets from its own crossings, and from
    those of each other training (the null: all have the same pulses), see `onset_scan`. Then the
    periods: whether most of its instabilities begin with period 2, and whether any goes on to 4, 8
    or 16; beside it the same of their swings in shuffled order. None from fewer than two trainings
    with single steps and λ_max, or without any instability.
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
    """Distances from own and from others' crossings at each of `FACTORS`: (trainings, factors)."""
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
    """Return the mean distance of each onset from the nearest crossing, and the other way round.

    What fails to come counts as what comes in the wrong place does, `most` at most; NaN without
    any.
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
    return Finding.of(
        BEGIN,
        "steps between onsets and crossings, control − own at the bound against others' "
        f"crossings{base}: of 0.8 to 1.2 times the bound the own crossings agree best at "
        f"{FACTORS[best]:.2f} ({_mean(own)[best]:.0f} steps), by training "
        f"{ranged(mean_interval(each))}; those of others at {FACTORS[null]:.2f} "
        f"({_mean(others)[null]:.0f} steps)",
        nearer,
        sample="trainings",
        beside=f"at the bound own crossings {_mean(own[:, at]):.0f} steps, others' "
        f"{_mean(others[:, at]):.0f}",
    )


def _factor(own: Array, later: float, base: str) -> Finding:
    low, at, high = (own[:, FACTORS.index(one)] for one in (ASIDE[0], 1.0, ASIDE[1]))
    worse = np.minimum(low, high) - at
    return Finding.of(
        BEGIN,
        "steps between onsets and crossings, control − own at the bound against the lesser of "
        f"{ASIDE[0]} and {ASIDE[1]} times it{base}: the onset is when growth "
        f"passes the detector's threshold; twice the threshold, {later:+.0f} steps in the median",
        worse,
        sample="trainings",
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
    seen = [[each.cascade for each in own] for own in found if own]
    mixed = [shuffled(one, each) for one, own in zip(traces, found, strict=True) for each in own]
    everyone = [one for own in seen for one in own]
    total = len(everyone)
    irregular, quasi = sum(c.irregular for c in everyone), sum(c.quasi for c in everyone)
    findings = []
    for what, holds, trainings, more in (
        (
            "period 2 first in most instabilities",
            _begins,
            sum(2 * sum(map(_begins, own)) > len(own) for own in seen),
            "begin with it",
        ),
        (
            "period 4, 8 or 16 in any instability",
            _goes_on,
            sum(any(map(_goes_on, own)) for own in seen),
            f"go on to it; {irregular} become irregular, {quasi} quasi-periodic",
        ),
    ):
        findings.append(
            Finding(
                DOUBLING,
                f"share of trainings for {what}{base}: {sum(map(holds, everyone))} of {total} "
                f"instabilities {more}",
                proportion_interval(trainings, len(seen)),
                np.nan,
                "trainings",
                0.5,
                f"with their swings in shuffled order {sum(map(holds, mixed))} of {total}",
            )
        )
    return findings


def _begins(one: Cascade) -> bool:
    return one.first == 2


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
