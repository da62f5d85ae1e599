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
    z = 1.959963984540054
    share, spread = count / total, z * z / total
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    return Estimate(share, max(middle - half, 0.0), min(middle + half, 1.0), total)


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
