"""The class weights: the definition, and what must hold for every setting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiltcli
from tiltcli.schedule import SHAPES, Schedule

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
    ):
        settings = {"num_classes": 2, "amplitude": 3, "period": 10} | bad
        with pytest.raises(ValueError, match="must be"):
            tiltcli.gamma(0, **settings)
    with pytest.raises(ValueError, match="whole"):
        tiltcli.gamma(-1, num_classes=2, amplitude=3, period=10)
