"""The class weights: the definition, and what must hold for every setting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiltcli
from tiltcli.schedule import GROUPS, ORDERS, SHAPES, TIMINGS, Schedule, groups_of

schedules = st.builds(
    Schedule,
    classes=st.integers(2, 12),
    amplitude=st.floats(1, 300),
    period=st.integers(1, 400),
    rest=st.integers(0, 30),
    settle_at=st.none() | st.integers(0, 5000),
    shape=st.sampled_from(SHAPES),
)


def plain(classes, amplitude, period, rest, s):
    """The triangle, step by step, as the paper writes it."""
    pulse, t = divmod(s, period + rest)
    g = [1.0] * classes
    if t < period:
        rise = 2 * (amplitude - 1) * t / period
        g[pulse % classes] = 1 + rise if t < period / 2 else 2 * amplitude - 1 - rise
    return [classes * x / sum(g) for x in g]


@pytest.mark.parametrize(("amplitude", "period", "rest"), [(70, 5000, 1), (3, 7, 0), (20, 1, 2)])
def test_triangle_is_the_papers(amplitude, period, rest):
    steps = np.arange(4 * (period + rest))
    got = Schedule(3, amplitude, period, rest).gamma(steps)
    expected = [plain(3, amplitude, period, rest, int(s)) for s in steps]
    np.testing.assert_allclose(got, expected, rtol=1e-13)


@given(schedules, st.integers(0, 10**9))
def test_weights_sum_to_the_number_of_classes_and_are_positive(schedule, step):
    weights = schedule.gamma(step)
    assert weights.shape == (schedule.classes,)
    assert weights.sum() == pytest.approx(schedule.classes, rel=1e-12)
    assert (weights > 0).all()


@given(schedules, st.integers(0, 10**6))
def test_a_round_of_all_classes_repeats(schedule, step):
    round_ = schedule.pulse * schedule.classes
    free = Schedule(
        schedule.classes, schedule.amplitude, schedule.period, schedule.rest, None, schedule.shape
    )
    np.testing.assert_array_equal(free.gamma(step), free.gamma(step + round_))


@given(st.sampled_from(SHAPES), st.integers(1, 50), st.integers(0, 5))
def test_amplitude_one_is_the_static_loss_exactly(shape, period, rest):
    weights = Schedule(3, 1, period, rest, shape=shape).gamma(np.arange(200))
    assert (weights == 1.0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_peak_is_the_amplitude_at_mid_pulse(shape):
    weights = Schedule(4, 9.0, 100, 3, shape=shape).gamma(np.arange(103))
    ratio = weights[:, 0] / weights[:, 1]
    assert ratio.max() == pytest.approx(9.0)
    assert ratio[50] == pytest.approx(9.0)
    assert (weights[100:] == 1.0).all()


def test_settles_at_the_next_pulse_boundary():
    schedule = Schedule(3, 10.0, 20, 1, settle_at=50)
    assert schedule.settled_from == 63
    weights = schedule.gamma(np.arange(200))
    assert (weights[52] != 1).any()
    assert (weights[63:] == 1).all()
    assert Schedule(3, 10.0, 20, 1, settle_at=42).settled_from == 42


def test_emphasised_class_takes_turns():
    schedule = Schedule(3, 10.0, 2, 1)
    assert schedule.emphasised(np.arange(10)).tolist() == [0, 0, -1, 1, 1, -1, 2, 2, -1, 0]


def test_public_function_agrees_and_checks():
    got = tiltcli.gamma([0, 5, 10], num_classes=2, amplitude=3, period=10)
    np.testing.assert_array_equal(got, Schedule(2, 3, 10).gamma([0, 5, 10]))
    for bad in (
        {"amplitude": 0.5},
        {"period": 0},
        {"rest": -1},
        {"shape": "saw"},
        {"num_classes": 1},
        {"amplitude": float("nan")},
        {"order": "none"},
        {"groups": "samples"},
        {"timing": "late"},
        {"half_life": -1},
        {"half_life": 1.5},
        {"seed": -1},
    ):
        settings = {"num_classes": 2, "amplitude": 3, "period": 10} | bad
        with pytest.raises(ValueError, match="must be"):
            tiltcli.gamma(0, **settings)
    with pytest.raises(ValueError, match="whole"):
        tiltcli.gamma(-1, num_classes=2, amplitude=3, period=10)


controls = st.builds(
    Schedule,
    classes=st.integers(2, 6),
    amplitude=st.floats(1, 100),
    period=st.integers(1, 30),
    rest=st.integers(0, 3),
    settle_at=st.none() | st.integers(0, 300),
    shape=st.sampled_from(SHAPES),
    order=st.sampled_from(ORDERS),
    groups=st.sampled_from(GROUPS),
    timing=st.sampled_from(TIMINGS),
    half_life=st.sampled_from([0, 1, 40]),
    seed=st.integers(0, 2**32 - 3),
)


@given(controls, st.lists(st.integers(0, 500), min_size=1, max_size=6))
def test_any_steps_alone_are_those_of_the_whole_course(schedule, steps):
    whole = schedule.gamma(np.arange(501))
    np.testing.assert_array_equal(schedule.gamma(steps), whole[steps])


def test_random_order_is_a_fresh_permutation_each_round():
    schedule = Schedule(3, 10.0, 4, 1, order="random", seed=7)
    cyclic = Schedule(3, 10.0, 4, 1)
    steps = np.arange(15 * 600)
    turns = schedule.emphasised(steps).reshape(600, 3, 5)
    assert (turns[..., :4] == turns[..., :1]).all()
    assert (turns[..., 4] == -1).all()
    rounds = turns[..., 0]
    assert (np.sort(rounds, axis=1) == [0, 1, 2]).all()
    # All six orders, each about a hundred times: χ² with 5 degrees of freedom, 0.1% point 20.5.
    _, counts = np.unique(rounds, axis=0, return_counts=True)
    assert len(counts) == 6
    assert ((counts - 100) ** 2 / 100).sum() < 20.5
    # The weights are the cyclic ones, handed to other classes.
    np.testing.assert_array_equal(
        np.sort(schedule.gamma(steps), axis=1), np.sort(cyclic.gamma(steps), axis=1)
    )
    other = Schedule(3, 10.0, 4, 1, order="random", seed=8).emphasised(steps)
    assert (other != schedule.emphasised(steps)).any()


def test_noise_draws_the_steps_of_the_cycle_alike():
    cycle = Schedule(3, 8.0, 6, 1).gamma(np.arange(21))
    noise = Schedule(3, 8.0, 6, 1, timing="noise", seed=3).gamma(np.arange(21_000))
    kinds, index = np.unique(cycle, axis=0, return_inverse=True)
    share = np.bincount(index.ravel()) / 21
    drawn = [(noise == kind).all(axis=1).sum() for kind in kinds]
    assert sum(drawn) == 21_000
    # χ² of the kinds' counts, against its 0.1% point for 18 degrees of freedom, the most there are.
    assert len(kinds) <= 19
    assert ((drawn - 21_000 * share) ** 2 / (21_000 * share)).sum() < 42.3
    # No memory: the next step's weights hang on nothing that came before.
    x = noise[:, 0] - noise[:, 0].mean()
    for lag in (1, 7, 21):
        assert abs((x[lag:] * x[:-lag]).mean() / x.var()) < 4 / np.sqrt(21_000)


def test_noise_ends_where_the_oscillation_would():
    schedule = Schedule(3, 8.0, 6, 1, settle_at=40, timing="noise")
    assert (schedule.gamma(np.arange(42, 300)) == 1).all()
    assert (schedule.gamma(np.arange(42)) != 1).any()


def test_blind_to_class_all_have_the_emphasised_ones_weight():
    steps = np.arange(100)
    one, all_ = (Schedule(3, 9.0, 20, 2, 70, groups=groups) for groups in ("class", "all"))
    expected = np.where(one.emphasised(steps) >= 0, one.gamma(steps).max(axis=1), 1.0)
    np.testing.assert_array_equal(all_.gamma(steps), np.repeat(expected[:, None], 3, axis=1))


@given(st.floats(1, 100), st.integers(1, 200), st.integers(0, 2000))
def test_half_life_halves_what_the_amplitude_adds(amplitude, half_life, step):
    got = Schedule(3, amplitude, 40, 0, half_life=half_life).gamma(step)
    now = 1 + (amplitude - 1) * 2 ** (-step / half_life)
    np.testing.assert_allclose(got, plain(3, now, 40, 0, step), rtol=1e-12)


def test_random_groups_have_the_classes_sizes_whatever_the_labels():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    groups = groups_of("random", labels, 5)
    np.testing.assert_array_equal(np.bincount(groups), [60, 30, 10])
    # Of the 60 of class 0 about 36 lie in group 0: hypergeometric, standard deviation 2.4.
    assert abs((groups[labels == 0] == 0).sum() - 36) < 10
    np.testing.assert_array_equal(groups, groups_of("random", labels, 5))
    assert (groups != groups_of("random", labels, 6)).any()
    for name in ("class", "all"):
        np.testing.assert_array_equal(groups_of(name, labels, 5), labels)


def test_an_amplitude_beyond_floats_warns_of_nothing():
    assert not np.isfinite(Schedule(3, 1e308, 10).gamma(np.arange(10))).all()
