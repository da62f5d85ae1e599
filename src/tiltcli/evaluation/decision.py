"""When a difference is decided, and how many replicates that takes: one rule for every view."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tiltcli.statistics import DRAWS, EXACT_UP_TO

LEVEL = 0.05
"""P-values, corrected over the rows, have to lie below it."""

FEWEST = 5
"""Replicates below which nothing is decided."""

POWER = 0.8
"""Chance of showing a difference with the replicates of `replicates_for_power`."""

Array = npt.NDArray[np.float64]


def decided(
    low: npt.ArrayLike,
    high: npt.ArrayLike,
    p: npt.ArrayLike,
    n: npt.ArrayLike,
    against: float = 0.0,
) -> npt.NDArray[np.int64]:
    """Return 1 where a mean is above `against`, -1 where it is below, 0 where that is not decided.

    It takes both, the 95% interval beyond `against` and a corrected p below 0.05, and at least five
    replicates; without a test (p is NaN: a share) the interval has to do. An interval of width zero
    decides nothing: replicates that agree to the last digit say nothing of how others would
    scatter.
    """
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    wide = high - low > 1e-9 * np.maximum(np.abs(low), np.abs(high))  # more than rounding
    sound = wide & (np.asarray(n) >= FEWEST) & ~(np.asarray(p, dtype=np.float64) >= LEVEL)
    return np.where(sound, (low > against).astype(int) - (high < against), 0)


def least_p(n: npt.ArrayLike) -> Array:
    """Return the least p that the permutation test can have, 2/2^n, before any correction."""
    pairs = np.asarray(n, dtype=np.float64)
    exact = 2.0 ** (1.0 - np.minimum(pairs, EXACT_UP_TO + 1))
    return np.where(pairs > 0, np.where(pairs > EXACT_UP_TO, 1 / (DRAWS + 1), exact), np.nan)


def replicates_needed(rows: int) -> int:
    """Fewest replicates with which a p corrected over so many rows can fall below 0.05."""
    n = FEWEST
    while rows * 2.0 ** (1 - n) >= LEVEL:
        n += 1
    return n


def replicates_for_power(difference: npt.ArrayLike, spread: npt.ArrayLike, rows: int) -> Array:
    """Return the replicates with which a difference such as was seen would be shown, mostly.

    For a chance of 80% in a two-sided paired t-test at the level 0.05 / rows, by Guenther's
    formula (1981), n = (z_α/2 + z_β)² s²/d² + z_α/2²/2, which is within two of the exact number.
    """
    from scipy.special import ndtri

    d, s = np.abs(np.asarray(difference, dtype=np.float64)), np.asarray(spread, dtype=np.float64)
    edge, reach = -float(ndtri(LEVEL / (2 * max(rows, 1)))), float(ndtri(POWER))
    seen = (d > 0) & ~np.isnan(s)
    ratio = np.divide(s, d, out=np.full(d.shape, np.nan), where=seen)
    found = np.ceil(((edge + reach) * ratio) ** 2 + edge**2 / 2)
    return np.asarray(np.maximum(found, replicates_needed(rows)))
