"""Against brute force, textbook formulas and hand calculation."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tiltcli import statistics
from tiltcli.statistics import (
    holm,
    mean_interval,
    permutation_test,
    permutation_tests,
)

small = st.lists(st.integers(-6, 6), min_size=1, max_size=8)


@given(small)
def test_permutation_test_is_brute_force(values):
    d = np.array(values) / 300
    sums = [abs(np.dot(signs, d)) for signs in itertools.product((1, -1), repeat=len(d))]
    expected = np.mean([s >= abs(d.sum()) - 1e-12 for s in sums])
    assert permutation_test(d) == pytest.approx(expected)


def test_permutation_test_by_hand():
    # All five of a sign: only the pattern itself and its mirror image are as far out, of 32.
    assert permutation_test([0.1, 0.2, 0.3, 0.1, 0.05]) == pytest.approx(2 / 32)
    assert permutation_test([0.0, 0.0]) == 1
    assert permutation_test([0.3]) == 1
    assert np.isnan(permutation_test([]))
    assert permutation_test([0.1, np.nan, 0.2]) == permutation_test([0.1, 0.2])


def test_many_pairs_are_drawn_with_a_seed_and_agree_with_scipy():
    d = np.random.default_rng(0).normal(0.4, 1, 40)
    p = permutation_test(d)
    assert p == permutation_test(d)
    assert p == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.02)
    assert permutation_test(np.ones(60)) == pytest.approx(1 / (statistics.DRAWS + 1))


def test_exact_and_drawn_agree(monkeypatch):
    d = np.random.default_rng(1).normal(0.3, 1, 14)
    exact = permutation_test(d)
    monkeypatch.setattr(statistics, "EXACT_UP_TO", 10)
    assert permutation_test(d) == pytest.approx(exact, abs=0.005)


def test_interval_is_students():
    values = [0.5, 0.7, 0.65, 0.8]
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    found = mean_interval([*values, np.nan])
    assert (found.mean, found.low, found.high, found.n) == pytest.approx(
        (np.mean(values), low, high, 4)
    )
    assert np.isnan(mean_interval([1.0]).low)
    assert np.isnan(mean_interval([]).mean)
    assert mean_interval([2.0, 2.0, 2.0]) == statistics.Estimate(2.0, 2.0, 2.0, 3)


def test_interval_covers_as_it_says():
    rng = np.random.default_rng(2)
    found = [mean_interval(rng.normal(1, 2, 6)) for _ in range(2000)]
    assert np.mean([e.low <= 1 <= e.high for e in found]) == pytest.approx(0.95, abs=0.015)


def test_holm_by_hand():
    np.testing.assert_allclose(
        holm([0.01, 0.04, np.nan, 0.03, 0.5]), [0.04, 0.09, np.nan, 0.09, 0.5]
    )
    np.testing.assert_allclose(holm([0.6, 0.7]), [1, 1])
    assert holm([]).shape == (0,)


def test_many_permutation_tests_are_the_single_ones():
    rng = np.random.default_rng(3)
    samples = [rng.normal(0.1, 1, n) for n in (0, 1, 5, 20, 21, 40, 21, 40, 40)]
    samples.append(np.append(samples[4], np.nan))
    together = permutation_tests(samples)
    np.testing.assert_array_equal(together, [permutation_test(one) for one in samples])
    assert together[4] == together[-1]
