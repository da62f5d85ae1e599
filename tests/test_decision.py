"""When a difference is decided: both rules at once, and how many replicates that takes."""

import math

import numpy as np
import pytest
from scipy import stats

from tiltcli.statistics import (
    decided,
    holm,
    least_p,
    mean_interval,
    permutation_test,
    replicates_for_power,
    replicates_needed,
)


@pytest.mark.parametrize(
    ("low", "high", "p", "n", "side"),
    [
        (0.1, 0.2, 0.049, 6, 1),
        (-0.2, -0.1, 0.049, 6, -1),
        (0.1, 0.2, 0.05, 6, 0),  # p contradicts
        (-0.1, 0.2, 0.001, 6, 0),  # the interval does
        (0.0, 0.2, 0.001, 6, 0),
        (0.1, 0.2, 0.001, 5, 1),
        (0.1, 0.2, 0.001, 4, 0),  # too few
        (0.1, 0.1, 0.001, 20, 0),  # of width zero
        (0.1, 0.1 + 1e-15, 0.001, 20, 0),  # but for rounding
        (np.nan, np.nan, np.nan, 1, 0),
        (0.1, 0.2, np.nan, 40, 1),  # no test
    ],
)
def test_it_takes_both(low, high, p, n, side):
    assert decided(low, high, p, n) == side
    assert decided(low + 0.5, high + 0.5, p, n, 0.5) == side


def test_many_rows_at_once():
    low, high = np.array([0.1, -0.2, 0.1]), np.array([0.2, -0.1, 0.2])
    np.testing.assert_array_equal(decided(low, high, [0.01, 0.01, 0.5], [9, 9, 9]), [1, -1, 0])


@pytest.mark.parametrize("n", [1, 2, 5, 12])
def test_the_least_p_is_that_of_differences_of_one_sign(n):
    assert least_p(n) == permutation_test(np.arange(1, n + 1))
    assert np.isnan(least_p(0))


def test_the_least_p_of_drawn_patterns():
    assert least_p(21) == permutation_test(np.linspace(1, 2, 21)) == least_p(40)


@pytest.mark.parametrize("rows", [1, 2, 5, 11, 400])
def test_replicates_needed_are_those_whose_least_p_survives_holm(rows):
    needed = replicates_needed(rows)
    for n in range(2, needed + 3):
        least = holm([2 / 2**n] * rows)[0]
        assert (least < 0.05 and n >= 5) == (n >= needed)


def power(effect, n, rows):
    """Of the two-sided paired t-test, by the non-central t."""
    level = 0.05 / rows / 2
    edge = stats.t.isf(level, n - 1)
    shift = effect * math.sqrt(n)
    return stats.nct.sf(edge, n - 1, shift) + stats.nct.cdf(-edge, n - 1, shift)


@pytest.mark.parametrize("rows", [1, 3, 15])
@pytest.mark.parametrize("effect", [0.2, 0.5, 1.0, 1.5])
def test_replicates_for_power_are_those_of_the_exact_test(rows, effect):
    exact = next(n for n in range(2, 10_000) if power(effect, n, rows) >= 0.8)
    found = replicates_for_power([0.01 * effect], [0.01], rows)[0]
    assert abs(found - max(exact, replicates_needed(rows))) <= 2
    assert found == replicates_for_power([-0.01 * effect], [0.01], rows)[0]


def test_nothing_seen_no_number():
    assert np.isnan(replicates_for_power([0.0, np.nan, 0.1], [0.1, 0.1, np.nan], 3)).all()
    assert replicates_for_power([0.1], [0.0], 1) == replicates_needed(1)


SHAPES = {
    "accuracies": lambda rng, size: rng.integers(-4, 5, size) / 300,
    "skewed": lambda rng, size: rng.exponential(1, size) - rng.exponential(1, size),
    "bimodal": lambda rng, size: rng.choice([-0.2, 0.2], size) + rng.normal(0, 0.01, size),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_of_tables_without_any_effect_few_decide_anything(shape):
    """Both sides of one distribution, eleven rows of twelve replicates: 5% of tables at most."""
    rng = np.random.default_rng(20)
    tables, rows, n = 300, 11, 12
    false = 0
    for _ in range(tables):
        sample = shape(rng, (rows, n))
        p = holm([permutation_test(row) for row in sample])
        ends = [mean_interval(row) for row in sample]
        low, high = np.array([(e.low, e.high) for e in ends]).T
        false += bool(decided(low, high, p, [n] * rows).any())
    # Three standard errors above 5%.
    assert false / tables <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / tables)
