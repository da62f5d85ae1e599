"""Period doubling: after how many steps an oscillating loss repeats itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tiltcli.analysis.instability import Thresholds, swings

PERIODS = (2, 4, 8, 16)
"""Periods that are told apart; beyond them a cascade is as good as chaotic."""

WINDOW = 64
STRIDE = 8

UNCLEAR, STEADY, IRREGULAR = 0, 1, -1
"""Labels of windows beside the periods: growing or fading, no oscillation, no period at all."""

# A period is exact if the loss repeats to this share of its swing …
_OF_SWING = 0.1
# … and to this share of what every shorter period leaves over.
_OF_SHORTER = 0.2
# Without a period it is irregular if two steps leave over more than this share of the swing …
_LEFT_OVER = 0.25
# … and more steps do not leave over in proportion more, as they do where a swing grows or fades,
_GROWTH = 2.0
# … all of it well above the least swing that counts.
_ABOVE = 10.0
# A label counts where it stands in so many windows in a row; chaos comes close to a long period
# for a while by chance, seldom to a 2-cycle.
_IN_A_ROW = 5
_IN_A_ROW_OF_2 = 3


@dataclass(frozen=True)
class Cascade:
    """What was seen of a period-doubling cascade during one instability.

    Attributes:
        periods: those seen, rising, of 2, 4, 8, 16.
        irregular: whether the loss also went up and down without any of them (chaos, or a
            period such as 3 that is not of the cascade).

    """

    periods: tuple[int, ...]
    irregular: bool

    @property
    def longest(self) -> int | None:
        """Longest period seen; None if there was none."""
        return max(self.periods, default=None)

    def __str__(self) -> str:
        seen = [str(period) for period in self.periods]
        return " → ".join([*seen, "irregular"] if self.irregular else seen) or "–"


def window_labels(
    losses: npt.ArrayLike, begin: int, end: int, thresholds: Thresholds | None = None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Period of the loss in windows of 64 steps, one every 8 steps.

    With m_p the median of |q_{i+p} − q_i| / 2 over the window (q as in `swings`: for a pure
    2-cycle m_1 is its swing and m_2 is 0), the period is the largest p of 2, 4, 8, 16 with
    m_p ≤ 0.1 m_1 and m_p ≤ 0.2 min(m_1, m_2, …, m_{p/2}), that minimum being at least the least
    swing. Without one the window is irregular if m_2 > 0.25 m_1, min(m_4, m_8, m_16) < 2 m_2 and
    m_1 is at least ten times the least swing.

    Args:
        losses: F of consecutive steps, shape (steps,), finite.
        begin: first index to look at.
        end: index to stop before.
        thresholds: where the least swing comes from.

    Returns:
        first index of each window, and its label: a period, STEADY, IRREGULAR or UNCLEAR.

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
    labels[lasting & (m[:, 0] >= _ABOVE * least)] = IRREGULAR
    for k, period in enumerate(PERIODS, start=1):
        shorter = left_over[:, k - 1]
        exact = (m[:, k] <= _OF_SWING * m[:, 0]) & (m[:, k] <= _OF_SHORTER * shorter)
        labels[exact & (shorter >= least)] = period
    labels[m[:, 0] < least] = STEADY
    return starts, labels


def cascade_of(labels: npt.NDArray[np.int64]) -> Cascade:
    """Return what the windows of one instability come to.

    A label counts where five windows in a row have it (96 steps), period 2 where three have.
    """
    seen = {
        int(label)
        for label in np.unique(labels)
        if _longest_run(labels == label) >= (_IN_A_ROW_OF_2 if label == 2 else _IN_A_ROW)
    }
    return Cascade(tuple(p for p in PERIODS if p in seen), IRREGULAR in seen)


def _longest_run(flags: npt.NDArray[np.bool_]) -> int:
    padded = np.concatenate([[False], flags, [False]]).astype(np.int8)
    edges = np.flatnonzero(np.diff(padded))
    return int((edges[1::2] - edges[::2]).max(initial=0))
