"""Instabilities of a training, found in its losses of single steps, whatever their period.

Gradient descent on a valley that is too narrow for its learning rate overshoots the valley's floor
and bounces: with period 2, with a longer one, with none. What bounces is the loss about its smooth
course, taken as the binomial mean of neighbours (F_{i−1} + 2 F_i + F_{i+1}) / 4:

    q_i = (F_{i+1} − 2 F_i + F_{i−1}) / 4,

for F_i = smooth ± a equal to ±a, sin²(π/p) times the swing for a period p, and next to nothing for
a loss that only drifts, however fast.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Whole = npt.NDArray[np.int64]

STRETCH, EVERY = 256, 64
"""Steps of which it is asked whether a law makes them, and how often along an oscillation."""

_BY_A_LAW = 0.25
"""Error of `forecast_errors` below which one does: noise leaves 0.4 or more, chaos at most 0.1."""

_GROWN = 0.1
"""Share of the least swing at which the first window's first steps are part of the instability."""


@dataclass(frozen=True)
class Thresholds:
    """What counts as an instability.

    The *level* of a window of steps is the median of its |q|: a variance that single steps of the
    loss do not upset. The loss *oscillates* in a window where the level is at least `swing` and q
    changes its sign at least `turns` times. An instability begins at the first step of the first
    such window (that has grown to a tenth of `swing`)

    - whose level, and that of the window that adjoins it, is at least `burst` times the calm
      level: the lower decile of the levels in the `memory` steps before it, or
    - from which on the loss oscillates for 256 steps by a law: each value of q follows from the
      three before it as it did elsewhere in those steps (`forecast_errors`), and the level does
      not fall to half. That finds what was there from the start, or grew slowly; noise has no law.

    It ends before the first step from which the loss does not oscillate in `quiet` successive
    windows. Nothing here knows a period; but an oscillation slower than about 12 steps is taken
    for the smooth course, and the onset is when growth passes the threshold, not its beginning.

    The default `swing` suits losses of order one, as the cross-entropy of a few classes is; the
    smallest swing of float32 arithmetic is a hundred times less.
    """

    swing: float = 2e-5  # least level, in units of the loss
    # `swing` in shares of the window's median |F| (1e-4: the default at F = 0.2)
    relative: bool = False
    window: int = 20  # steps of a window
    turns: int = 4  # least changes of sign in it
    burst: float = 10.0  # factor over the calm level
    memory: int = 1000  # steps that the calm level looks back
    quiet: int = 100  # windows without oscillation after which an instability is over


@dataclass(frozen=True)
class Episode:
    """One instability, in indices of the losses."""

    onset: int
    end: int | None  # None: it lasts to the last step


def swings(losses: npt.ArrayLike) -> Array:
    """q_i = (F_{i+1} − 2 F_i + F_{i−1}) / 4, shape of `losses`; NaN at both ends."""
    F = np.asarray(losses, dtype=np.float64)
    q = np.full(len(F), np.nan)
    q[1:-1] = (F[2:] - 2 * F[1:-1] + F[:-2]) / 4
    return q


def find_episodes(losses: npt.ArrayLike, thresholds: Thresholds | None = None) -> list[Episode]:
    """Return the instabilities in the losses of consecutive steps, by the rules of `Thresholds`.

    What follows a value that is not finite (a diverged training) is left out.
    """
    rules = thresholds or Thresholds()
    F = np.asarray(losses, dtype=np.float64)
    F = F[: int(np.argmin(np.isfinite(F)))] if not np.isfinite(F).all() else F
    n = rules.window
    if len(F) < n + rules.quiet:
        return []
    # From here on, entry j of an array belongs to loss j + 1, where q is defined.
    q = swings(F)[1:-1]
    level = _medians(np.abs(q), n)
    least = rules.swing * (_medians(np.abs(F[1:-1]), n) if rules.relative else 1.0)
    turned = np.concatenate([[0], np.cumsum(q[1:] * q[:-1] < 0)])
    oscillates = (level >= least) & (turned[n - 1 :] - turned[: len(level)] >= rules.turns)
    calm = rules.burst * _calm_levels(level, rules)
    begins = oscillates & (level >= calm)
    begins[:-n] &= oscillates[n:] & (level[n:] >= calm[:-n])
    begins[-n:] = False
    begins[_lawful(q, level, oscillates, n)] = True
    episodes: list[Episode] = []
    starts, active = np.flatnonzero(begins), np.flatnonzero(oscillates)
    at = 0
    while (k := int(np.searchsorted(starts, at))) < len(starts):
        onset = int(starts[k])
        later = active[np.searchsorted(active, onset) :]
        gaps = np.flatnonzero(np.diff(np.append(later, len(level) + rules.quiet)) > rules.quiet)
        last = int(later[gaps[0]])
        over = last + 1 + rules.quiet <= len(level)
        grown = np.abs(q[onset : onset + n]) >= _GROWN * np.broadcast_to(least, level.shape)[onset]
        episodes.append(Episode(onset + int(grown.argmax()) + 1, last + 2 if over else None))
        at = last + 1
    return episodes


def forecast_errors(values: Array, ahead: tuple[int, ...] = (1,)) -> list[float]:
    """Return how well a series foretells itself some steps ahead: median errors over its spread.

    By what followed the nearest neighbour, in largest difference, among all triples of successive
    values (Lorenz's analogues, 1969; Farmer and Sidorowich 1987). Next to 0 for periods and
    invariant circles, small one step ahead of chaos and growing with the steps, about 1 for noise.
    """
    count = len(values) - 2 - max(ahead)
    triples = np.lib.stride_tricks.sliding_window_view(values, 3)[:count]
    own = np.arange(count)
    near = cKDTree(triples).query(triples, k=2, p=np.inf)[1]
    alike, here = np.where(near[:, 0] == own, near[:, 1], near[:, 0]) + 2, own + 2
    spread = float(np.median(np.abs(values - np.median(values))))
    if spread == 0:
        return [0.0 for _ in ahead]
    return [float(np.median(np.abs(values[here + k] - values[alike + k]))) / spread for k in ahead]


def _calm_levels(level: Array, rules: Thresholds) -> Array:
    """Lower decile of the levels of adjoining windows before each; infinite before the fifth."""
    n, most = rules.window, rules.memory // rules.window
    adjoining = level[::n]
    padded = np.concatenate([np.full(most, np.nan), adjoining])
    past = np.lib.stride_tricks.sliding_window_view(padded, most)
    known = np.full(len(adjoining) + 1, np.inf)
    least = rules.quiet // n
    known[least:] = np.nanquantile(past[least:], 0.1, axis=1)
    # Window j follows upon the windows 0 … j // n − 1, which end before it begins.
    return known[np.arange(len(level)) // n]


def _lawful(q: Array, level: Array, oscillates: Flags, window: int) -> list[int]:
    """Starts of stretches that oscillate, but for a window now and then, by a law that lasts."""
    active, found = np.flatnonzero(oscillates), []
    for run in np.split(active, np.flatnonzero(np.diff(active) > window) + 1):
        for at in range(run[0], run[-1] - STRETCH + 2, EVERY) if len(run) else ():
            half = at + STRETCH // 2
            if np.median(level[half : at + STRETCH]) < np.median(level[at:half]) / 2:
                continue
            if forecast_errors(q[at : at + STRETCH])[0] <= _BY_A_LAW:
                found.append(at)
                break
    return found


def _medians(values: Array, n: int) -> Array:
    """Median of every n successive values."""
    windows = np.lib.stride_tricks.sliding_window_view(values, n)
    return np.asarray(np.median(windows, axis=1), dtype=np.float64)
