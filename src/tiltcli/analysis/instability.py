"""Instabilities of a training, found in its losses of single steps.

Gradient descent on a valley that is too narrow for its learning rate (λ_max > 2/η) overshoots the
valley's floor at every step: the loss F goes up and down with period 2. What alternates is
q_i = (F_{i+1} − 2 F_i + F_{i−1}) / 4, for F_i = smooth ± a equal to ±a, and next to nothing for a
loss that only drifts, however fast.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Thresholds:
    """What counts as an instability.

    An instability begins at the first step i at which

    - q_i … q_{i+window−1} alternate in sign,
    - the median of their |q| is at least `swing`, and
    - either the alternation goes on without a break for `hold` steps in all, or the median stands
      out: it is at least `burst` times the median |q| of the `quiet` steps before i (late in a
      training instabilities come as short bursts, irregular almost from their first step).

    It ends before the first step from which the median stays below `swing` at `quiet` successive
    windows. The third condition keeps noise out: in white noise of any strength 20 values of q
    alternate once in 800 steps, 48 about once in 5 million (measured), and no 20 stand out.

    Attributes:
        swing: least median |q|, in units of the loss. The default suits losses of order one, as
            the cross-entropy of a few classes is; the smallest swing of float32 arithmetic is a
            hundred times less.
        relative: whether `swing` counts in shares of the window's median |F| instead, for
            losses of another order (1e-4 then answers to the default at F = 0.2).
        window: steps of a window.
        hold: least steps of unbroken alternation, where nothing stands out.
        burst: factor by which a burst stands out.
        quiet: windows below `swing` after which an instability is over.

    """

    swing: float = 2e-5
    relative: bool = False
    window: int = 20
    hold: int = 48
    burst: float = 10.0
    quiet: int = 100


@dataclass(frozen=True)
class Episode:
    """One instability.

    Attributes:
        onset: index of the loss at which it begins.
        end: index at which it is over; None if it lasts to the last step.

    """

    onset: int
    end: int | None


def swings(losses: npt.ArrayLike) -> Array:
    """q_i = (F_{i+1} − 2 F_i + F_{i−1}) / 4, shape of `losses`; NaN at both ends."""
    F = np.asarray(losses, dtype=np.float64)
    q = np.full(len(F), np.nan)
    q[1:-1] = (F[2:] - 2 * F[1:-1] + F[:-2]) / 4
    return q


def find_episodes(losses: npt.ArrayLike, thresholds: Thresholds | None = None) -> list[Episode]:
    """Return the instabilities in the losses of consecutive steps, by the rules of `Thresholds`.

    Args:
        losses: F at steps 0, 1, 2, …, shape (steps,); what follows a value that is not finite (a
            diverged training) is left out.
        thresholds: the rules; default: as they stand in `Thresholds`.

    """
    rules = thresholds or Thresholds()
    F = np.asarray(losses, dtype=np.float64)
    F = F[: int(np.argmin(np.isfinite(F)))] if not np.isfinite(F).all() else F
    n = rules.window
    if len(F) < n + rules.quiet:
        return []
    # From here on, entry j of an array belongs to loss j + 1, where q is defined.
    q = swings(F)[1:-1]
    median = _medians(np.abs(q), n)
    level = rules.swing * (_medians(np.abs(F[1:-1]), n) if rules.relative else 1.0)
    loud = median >= level
    run = _run_lengths(q)[: len(loud)]
    before = np.full(len(loud), np.inf)
    before[rules.quiet :] = _medians(np.abs(q), rules.quiet)[: len(loud) - rules.quiet]
    stands_out = (run >= n) & (median >= rules.burst * before)
    begins = loud & ((run >= rules.hold) | stands_out)
    episodes: list[Episode] = []
    starts, loud_at = np.flatnonzero(begins), np.flatnonzero(loud)
    at = 0
    while (k := int(np.searchsorted(starts, at))) < len(starts):
        onset = int(starts[k])
        later = loud_at[np.searchsorted(loud_at, onset) :]
        gaps = np.flatnonzero(np.diff(np.append(later, len(loud) + rules.quiet)) > rules.quiet)
        last = int(later[gaps[0]])
        over = last + 1 + rules.quiet <= len(loud)
        episodes.append(Episode(onset + 1, last + 2 if over else None))
        at = last + 1
    return episodes


def _medians(values: Array, n: int) -> Array:
    """Median of every n successive values."""
    windows = np.lib.stride_tricks.sliding_window_view(values, n)
    return np.asarray(np.median(windows, axis=1), dtype=np.float64)


def _run_lengths(q: Array) -> npt.NDArray[np.int64]:
    """How many values from each on alternate in sign, itself included."""
    breaks = np.flatnonzero(q[1:] * q[:-1] >= 0)
    following = np.append(breaks, len(q) - 1)
    at = np.arange(len(q))
    return np.asarray(following[np.searchsorted(breaks, at)] - at + 1, dtype=np.int64)
