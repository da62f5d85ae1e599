"""Instabilities are found where they are and nowhere else; cascades get their names.

losses_a.npz: F of the paper's Fig. 4 run (width 100, A = 70, T = 5000, rest = 1)
after updates 1 … 20 000 in an independent float64 program (JAX), kept as float32; `table`, with
`columns`: its instabilities, looked at step by step. Index i is the tool's step i + 1.
"""

import numpy as np
import pytest

from helpers import fig4_losses
from tiltcli.analysis.instability import Episode, Thresholds, find_episodes, swings
from tiltcli.analysis.periods import IRREGULAR, STEADY, cascade_of, window_labels


def logistic(r, steps=3000, before=3000):
    x = np.empty(before + steps)
    x[0] = 0.3
    for i in range(len(x) - 1):
        x[i + 1] = r * x[i] * (1 - x[i])
    return x[before:]


def reference():
    with np.load("tests/data/losses_a.npz") as found:
        columns = found["columns"].tolist()
        return found["weighted_loss"], {
            name: found["table"][:, columns.index(name)] for name in ("onset", "end")
        }


def test_swings_are_the_amplitude_of_a_two_cycle():
    steps = np.arange(100)
    F = 0.5 - 1e-3 * steps + 0.01 * (-1.0) ** steps
    q = swings(F)
    np.testing.assert_allclose(np.abs(q[1:-1]), 0.01, atol=1e-14)
    assert np.isnan(q[[0, -1]]).all()


def test_reference_onsets_and_ends():
    F, table = reference()
    found = find_episodes(F)
    assert [e.onset for e in found] == table["onset"][:4].tolist()
    assert [e.end for e in found] == [*table["end"][:3].tolist(), None]


def test_own_training_has_the_reference_onsets():
    """In another program's arithmetic: the run is chaotic, so late pulses only roughly."""
    _, table = reference()
    F = fig4_losses(35_000)
    found = find_episodes(F)
    onsets, ends = (np.array([getattr(e, k) for e in found[:6]], float) for k in ("onset", "end"))
    away = np.abs(onsets - (table["onset"] + 1))
    assert (away[:3] <= 40).all(), onsets
    assert (away <= 200).all(), onsets
    assert (np.abs(ends - (table["end"] + 1))[:2] <= 40).all(), ends


def test_relative_threshold_does_not_know_the_unit():
    F, _ = reference()
    rules = Thresholds(1e-4, relative=True)
    found = find_episodes(F, rules)
    assert found == find_episodes(1e-6 * F, rules)
    assert len(found) == 4
    assert find_episodes(1e-6 * F) == []
    labels = window_labels(F, 13_809, 15_338, rules)[1]
    small = window_labels(1e-6 * F.astype(float), 13_809, 15_338, rules)[1]
    np.testing.assert_array_equal(labels, small)


def test_reference_period_doubling():
    F, _ = reference()
    starts, labels = window_labels(F, 4169, 5160)
    assert cascade_of(labels).periods == (2,)
    starts, labels = window_labels(F, 13_809, 15_338)
    assert str(cascade_of(labels)) == "2 → 4 → irregular"
    four = starts[labels == 4]
    # Period 4 was seen there at 14 288 … 14 543, by another measure.
    assert set(range(14_297, 14_473, 8)) <= set(four.tolist())


@pytest.mark.parametrize(
    ("r", "period"), [(2.9, None), (3.2, 2), (3.4, 2), (3.5, 4), (3.55, 8), (3.566, 16)]
)
def test_logistic_cascade(r, period):
    x = logistic(r)
    labels = window_labels(x, 0, len(x))[1]
    cascade = cascade_of(labels)
    assert cascade.longest == period
    assert not cascade.irregular
    assert set(labels.tolist()) == {period or STEADY}
    assert find_episodes(x) == ([Episode(1, None)] if period else [])


@pytest.mark.parametrize("r", [3.7, 3.83, 3.9, 4.0])
def test_logistic_chaos_has_no_period(r):
    cascade = cascade_of(window_labels(logistic(r), 0, 3000)[1])
    assert cascade.irregular
    assert cascade.periods == ()
    assert str(cascade) == "irregular"


def test_a_cascade_driven_through():
    """r rises slowly, as λ_max does during a pulse (16 passes too fast to be seen)."""
    r = np.concatenate([np.full(500, 2.8), np.linspace(2.8, 3.75, 40_000)])
    x = np.empty(len(r))
    x[0] = 1 - 1 / 2.8  # at rest
    for i in range(len(x) - 1):
        x[i + 1] = r[i] * x[i] * (1 - x[i])
    (episode,) = find_episodes(x)
    doubling = 500 + round(40_000 * (3.0 - 2.8) / 0.95)
    assert 0 <= episode.onset - doubling < 2000  # a swing takes time to grow from nothing
    cascade = cascade_of(window_labels(x, episode.onset, len(x))[1])
    assert str(cascade) == "2 → 4 → 8 → irregular"


def noises():
    draw = np.random.default_rng(7)
    white = draw.standard_normal(70_000)
    return {
        "white": white,
        "uniform": draw.random(70_000),
        "faint": 1e-9 * white,
        "walk": np.cumsum(white),
        "alternating": white[1:] - 0.5 * white[:-1],
    }


@pytest.mark.parametrize("name", list(noises()))
def test_noise_is_no_instability(name):
    x = noises()[name]
    assert find_episodes(x) == []
    assert find_episodes(10 + x, Thresholds(1e-4, relative=True)) == []


@pytest.mark.parametrize(
    "F",
    [
        np.exp(-np.arange(20_000) / 900),
        1.1 - 1e-4 * np.arange(10_000),
        1 + np.sin(np.arange(20_000) / 50),
        1 + np.sin(np.arange(20_000) / 3),
        np.zeros(5000),
        np.abs(np.arange(5000) - 2500.0),
        np.arange(5.0),
        np.zeros(0),
    ],
)
def test_smooth_losses_are_no_instability(F):
    assert find_episodes(F) == []
    assert find_episodes(F, Thresholds(1e-4, relative=True)) == []


def test_ends_and_gaps():
    """A pause shorter than `quiet` does not end an instability; a longer one does."""
    steps = np.arange(3000)
    loud = (steps >= 500) & (steps < 800) | (steps >= 850) & (steps < 1000) | (steps >= 2000)
    F = 0.3 + 1e-3 * loud * (-1.0) ** steps
    first, second = find_episodes(F)
    assert abs(first.onset - 500) <= 1
    assert abs(first.end - 990) <= 20
    assert abs(second.onset - 2000) <= 1
    assert second.end is None


def test_what_follows_a_divergence_is_left_out():
    steps = np.arange(1000)
    F = np.where(steps < 300, 0.3, 0.3 + 1e-3 * (-1.0) ** steps)
    F[600:] = np.nan
    (episode,) = find_episodes(F)
    assert episode == Episode(299, None)


@pytest.mark.parametrize(
    ("length", "noise", "count"), [(15, 0, 0), (30, 0, 1), (30, 1, 0), (60, 1, 1)]
)
def test_a_short_burst_must_stand_out(length, noise, count):
    """48 steps of alternation are enough by themselves; 20 are where all was calm before."""
    steps = np.arange(1000)
    F = 0.3 + 1e-3 * ((steps >= 500) & (steps < 500 + length)) * (-1.0) ** steps
    F += 1.4e-3 * noise * np.random.default_rng(0).random(1000)
    assert len(find_episodes(F)) == count


def test_white_noise_is_irregular_not_periodic():
    x = np.random.default_rng(3).standard_normal(20_000)
    labels = window_labels(x, 0, len(x))[1]
    assert cascade_of(labels).periods == ()
    assert (labels == IRREGULAR).mean() > 0.95
