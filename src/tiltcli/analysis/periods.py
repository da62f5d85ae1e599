"""Period doubling: after how many steps an oscillating loss repeats itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tiltcli.analysis.instability import (
    EVERY,
    STRETCH,
    Array,
    Thresholds,
    Whole,
    forecast_errors,
    swings,
)

PERIODS = (2, 4, 8, 16)
"""Periods of a cascade that are told apart; beyond them it is as good as chaotic."""

_OTHERS = tuple(p for p in range(3, PERIODS[-1]) if p not in PERIODS)

WINDOW = 64
STRIDE = 8

UNCLEAR, STEADY, IRREGULAR, QUASI = 0, 1, -1, -2
"""Labels of windows beside the periods: growing or fading, no oscillation, no period at all, and
no period though close states stay close, as on an invariant circle."""

# A period is exact if the loss repeats to this share of its swing …
_OF_SWING = 0.1
# … and to this share of what every shorter period leaves over.
_OF_SHORTER = 0.2
# Another period must repeat closer: an invariant circle comes close to one, too.
_OF_OTHERS = 0.02
# Without a period it is irregular if two steps leave over more than this share of the swing …
_LEFT_OVER = 0.25
# … and more steps do not leave over in proportion more, as they do where a swing grows or fades,
_GROWTH = 2.0
# … all of it well above the least swing that counts.
_ABOVE = 10.0
# It is quasi-periodic if states as close as two are in the stretch foretell each other, and 32
# steps later are apart at most so many times as far as after one: chaos parts them exponentially.
_FORETOLD, _CLOSELY, _LATER, _APART = 0.25, 0.04, 32, 6.0
# Irregular it is, however narrow the bands, if they are then apart by so much of the swing, …
_PARTED = 0.03
# … the swing is the same throughout the stretch up to this share, and no period fits to this one.
_STEADY, _EXACT = 0.6, 0.01
# A label counts where it stands in so many windows in a row; chaos comes close to a long period
# for a while by chance, seldom to a 2-cycle.
_IN_A_ROW = 5
_IN_A_ROW_OF = {2: 3, QUASI: 33}


@dataclass(frozen=True)
class Cascade:
    """What was seen of a period-doubling cascade during one instability."""

    periods: tuple[int, ...]  # those seen, rising, up to 16; 2, 4, 8, 16 are a cascade's
    irregular: bool  # whether the loss also went up and down without any of them (chaos)
    quasi: bool = False  # whether it did so without parting states that are close (quasi-periodic)
    first: int | None = None  # label that came first of all; None if none was clear

    @property
    def longest(self) -> int | None:
        """Longest period seen; None if there was none."""
        return max(self.periods, default=None)

    def __str__(self) -> str:
        seen = [str(period) for period in self.periods]
        more = {"quasi-periodic": self.quasi, "irregular": self.irregular}
        return " → ".join([*seen, *(name for name, found in more.items() if found)]) or "–"


def window_labels(
    losses: npt.ArrayLike, begin: int, end: int, thresholds: Thresholds | None = None
) -> tuple[Whole, Whole]:
    """Return the first index of windows of 64 steps, one every 8 steps, and their labels.

    With m_p the median of |q_{i+p} − q_i| / 2 over the window (q as in `swings`: for a pure
    2-cycle m_1 is its swing and m_2 is 0), the period is the largest p of 2, 4, 8, 16 with
    m_p ≤ 0.1 m_1 and m_p ≤ 0.2 min(m_1, m_2, …, m_{p/2}), that minimum being at least the least
    swing. Without one the window is irregular if m_2 > 0.25 m_1, min(m_4, m_8, m_16) < 2 m_2 and
    m_1 is at least ten times the least swing; unless the same holds of the least other p up to 15
    with m_p ≤ 0.02 m_1, which is its period then, or of 256 steps that the window lies in, q is
    quasi-periodic: values foretold by their nearest neighbours (`forecast_errors`) are off by at
    most 4% of the swing, and after 32 steps at most six times as far as after one.
    """
    rules = thresholds or Thresholds()
    F = np.asarray(losses, dtype=np.float64)
    q = swings(F)
    lags = (1, *PERIODS)
    starts = np.arange(max(begin, 1), min(end, len(F) - 1) - WINDOW + 1, STRIDE)
    inner = np.arange(WINDOW - lags[-1])
    at = starts[:, None] + inner
    m = np.stack([np.median(np.abs(q[at + lag] - q[at]), axis=1) / 2 for lag in lags], axis=1)
    least = np.full(len(starts), rules.swing)
    if rules.relative:
        least = least * np.median(np.abs(F[at]), axis=1)
    labels = np.full(len(starts), UNCLEAR)
    left_over = np.minimum.accumulate(m, axis=1)
    lasting = (m[:, 1] > _LEFT_OVER * m[:, 0]) & (m[:, 2:].min(axis=1) < _GROWTH * m[:, 1])
    wild = lasting & (m[:, 0] >= _ABOVE * least)
    labels[wild] = IRREGULAR
    for k, period in enumerate(PERIODS, start=1):
        shorter = left_over[:, k - 1]
        exact = (m[:, k] <= _OF_SWING * m[:, 0]) & (m[:, k] <= _OF_SHORTER * shorter)
        labels[exact & (shorter >= least)] = period
    wild &= labels == IRREGULAR
    for p in reversed(_OTHERS):
        rest = np.median(np.abs(q[at[wild] + p] - q[at[wild]]), axis=1) / 2
        labels[np.flatnonzero(wild)[rest <= _OF_OTHERS * m[wild, 0]]] = p
    labels = _by_neighbours(q, starts, labels, m)
    labels[m[:, 0] < least] = STEADY
    return starts, labels


def _by_neighbours(q: Array, starts: Whole, labels: Whole, m: Array) -> Whole:
    """Tell quasi-periodic windows, and chaos in narrow bands, by the stretches they lie in."""
    span = (STRETCH - WINDOW) // STRIDE + 1
    rest = m[:, 1:].min(axis=1) / np.maximum(m[:, 0], np.finfo(float).tiny)
    found = labels.copy()
    last = len(starts) - span
    for begin in sorted({*range(0, last + 1, EVERY // STRIDE), max(last, 0)} if last >= 0 else ()):
        inside = slice(begin, begin + span)
        swing = m[inside, 0]
        if rest[inside].max() <= _EXACT or swing.min() < _STEADY * swing.max():
            continue
        stretch = q[starts[begin] : starts[begin] + STRETCH]
        soon, later = forecast_errors(stretch, (1, _LATER))
        if soon > _FORETOLD:
            continue
        if later > _APART * soon and later >= _PARTED:
            found[inside][rest[inside] > _EXACT] = IRREGULAR
        elif soon <= _CLOSELY and later <= _APART * soon:
            open_ = np.isin(labels[inside], (UNCLEAR, IRREGULAR)) & (rest[inside] > _OF_SWING / 2)
            found[inside][open_] = QUASI
    return found


def cascade_of(labels: Whole) -> Cascade:
    """Return what the windows of one instability come to.

    A label counts where five windows in a row have it (96 steps), period 2 where three have,
    quasi-periodic where 33 have. Chaos has periodic windows: beside it only a cascade's count.
    """
    begins = {}
    for label in np.unique(labels).tolist():
        same = np.concatenate([[False], labels == label, [False]]).astype(np.int8)
        edges = np.flatnonzero(np.diff(same)).reshape(-1, 2)
        runs = edges[np.diff(edges)[:, 0] >= _IN_A_ROW_OF.get(label, _IN_A_ROW)]
        if len(runs) and label not in (UNCLEAR, STEADY):
            begins[label] = int(runs[0, 0])
    told = PERIODS if IRREGULAR in begins else range(2, PERIODS[-1] + 1)
    periods = tuple(sorted(label for label in begins if label in told))
    first = min(begins, key=lambda label: begins[label], default=None)
    return Cascade(periods, IRREGULAR in begins, QUASI in begins, first)
