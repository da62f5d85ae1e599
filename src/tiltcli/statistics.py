"""Paired statistics: intervals, an exact permutation test, and a correction for many tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

EXACT_UP_TO = 20
"""Pairs up to which all sign patterns are enumerated: 2^20 sums fit in 8 MB."""

DRAWS = 200_000
SEED = 20210701


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% interval; NaN where there are too few values."""

    mean: float  # of the values; NaN if there are none
    low: float  # lower end of the interval; NaN with fewer than two values
    high: float  # upper end
    n: int  # number of values


def mean_interval(values: npt.ArrayLike) -> Estimate:
    """Return the mean with Student's 95% interval, mean ± t(0.975, n − 1)·s/√n; NaN are left out.

    Student's rather than a bootstrap: with the 4 to 20 seeds of a sweep a percentile bootstrap is
    too narrow (its spread is that of n, not of n − 1, and its tails are normal), and BCa has no
    answer for constant differences. For paired data give the differences. Equal values have an
    interval of width zero.
    """
    kept = np.asarray(values, dtype=np.float64).ravel()
    kept = kept[~np.isnan(kept)]
    n = len(kept)
    if n < 2:
        return Estimate(float(kept[0]) if n else np.nan, np.nan, np.nan, n)
    mean = float(kept.mean())
    half = _t_quantile(n - 1) * float(kept.std(ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n)


@lru_cache(maxsize=4096)
def _t_quantile(freedom: int) -> float:
    """0.975 quantile of Student's t."""
    # What scipy.stats.t.ppf calls, without the second that importing scipy.stats takes.
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))


def half_width(spread: npt.ArrayLike, n: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Half of Student's 95% interval of many means, t(0.975, n − 1)·s/√n; NaN where n < 2."""
    s, size = np.asarray(spread, dtype=np.float64), np.asarray(n, dtype=np.int64)
    # Samples have few different sizes.
    sizes, which = np.unique(np.where(size > 1, size, 2), return_inverse=True)
    quantiles = np.array([_t_quantile(int(one) - 1) for one in sizes])
    factor = (quantiles / np.sqrt(sizes))[which].reshape(size.shape)
    return np.where(size > 1, factor * s, np.nan)


def proportion_interval(count: int, total: int) -> Estimate:
    """Return a share with Wilson's 95% score interval (Wilson, 1927).

    It stays within 0 and 1 and has a width at both ends, unlike the normal one. The cases are
    taken as independent.
    """
    if total == 0:
        return Estimate(np.nan, np.nan, np.nan, 0)
    from scipy.stats import binomtest

    found = binomtest(count, total).proportion_ci(method="wilson")
    return Estimate(count / total, float(found.low), float(found.high), total)


def permutation_test(differences: npt.ArrayLike) -> float:
    """Return p of the two-sided paired permutation test of the mean difference; NaN are left out.

    Under the null hypothesis each pair could as well be the other way round, so each difference's
    sign is a coin. The p-value is the share of sign patterns whose mean is at least as far from
    zero as the observed one: of all 2^n patterns up to 20 pairs, of 200 000 seeded draws beyond
    (the observed pattern counted in, so that p is never 0). NaN without pairs.
    """
    return float(permutation_tests([differences])[0])


def permutation_tests(samples: Sequence[npt.ArrayLike]) -> npt.NDArray[np.float64]:
    """`permutation_test` of many samples; those of one size share their drawn patterns."""
    kept = [np.asarray(sample, dtype=np.float64).ravel() for sample in samples]
    kept = [sample[~np.isnan(sample)] for sample in kept]
    found = np.full(len(kept), np.nan)
    by_size: dict[int, list[int]] = {}
    for i, sample in enumerate(kept):
        by_size.setdefault(len(sample), []).append(i)
    by_size.pop(0, None)
    for size, places in by_size.items():
        d = np.stack([kept[i] for i in places])
        # Sums of the same numbers in another order differ in the last bits: they are still equal.
        least = np.abs(d.sum(axis=1)) - 1e-9 * np.maximum(np.abs(d).sum(axis=1), 1e-300)
        found[places] = _all(d, least) if size <= EXACT_UP_TO else _drawn(d, least)
    return found


def _all(d: npt.NDArray[np.float64], least: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """P-values from all sign patterns of every row of `d`, shape (tests, n)."""
    found = np.empty(len(d))
    many = max(1, (1 << EXACT_UP_TO) >> d.shape[1])  # rows at a time, for memory
    for begin in range(0, len(d), many):
        some = slice(begin, begin + many)
        # By symmetry the first sign may stay as it is.
        sums = d[some, :1]
        for column in d[some, 1:].T:
            sums = np.hstack([sums + column[:, None], sums - column[:, None]])
        found[some] = np.mean(np.abs(sums) >= least[some, None], axis=1)
    return found


def _drawn(d: npt.NDArray[np.float64], least: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """P-values from drawn sign patterns, the same for every row of `d`, shape (tests, n)."""
    rng = np.random.default_rng(SEED)
    hits, left = np.ones(len(d)), DRAWS
    while left:
        count = min(left, 20_000)
        signs = rng.integers(0, 2, (count, d.shape[1]), dtype=np.int8) * 2.0 - 1.0
        for begin in range(0, len(d), 256):  # a few rows at a time, for memory
            some = slice(begin, begin + 256)
            sums = np.abs(signs @ d[some].T)
            hits[some] += np.count_nonzero(sums >= least[some], axis=0)
        left -= count
    return hits / (DRAWS + 1)


def holm(p_values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Holm's step-down correction: any false alarm among all stays below p; NaN are no tests."""
    p = np.asarray(p_values, dtype=np.float64)
    corrected = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return corrected


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
