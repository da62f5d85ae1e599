"""Fused ≡ torch.optim ≡ NumPy from the definitions, whatever a perceptron is trained with."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

import perceptron
from tiltcli.engines.mlp.kernel import Batches, FusedNetwork
from tiltcli.engines.mlp.layout import Points
from tiltcli.engines.mlp.optimisers import Optimiser
from tiltcli.engines.mlp.order import shuffle
from tiltcli.engines.torch.update_cost import one_thread
from tiltcli.schedule import Schedule

P, SEED = 61, 5

PLAIN = {"optimizer": "sgd", "momentum": 0.0, "nesterov": False, "decay": 0.0}
OPTIMISERS = {
    "plain": PLAIN,
    "decay": PLAIN | {"decay": 0.01},
    "momentum": PLAIN | {"momentum": 0.9},
    "nesterov": PLAIN | {"momentum": 0.8, "nesterov": True, "decay": 0.01},
    "adam": PLAIN | {"optimizer": "adam"},
    "adam with decay": PLAIN | {"optimizer": "adam", "decay": 0.1},
    "adamw": PLAIN | {"optimizer": "adamw", "decay": 0.1},
}


def compare(D, C, W, depth, optimiser, base, size, schedule, grouped=False, steps=1000, torch=True):
    rng = np.random.default_rng(D + 10 * C + 100 * W)
    X, y = rng.normal(size=(P, D)), rng.integers(0, C, P)
    groups = rng.permutation(y) if grouped else y
    parts = perceptron.draw(rng, [D, *[W] * depth, C])
    how = OPTIMISERS[optimiser]
    rate = (0.002 if how["optimizer"] != "sgd" else 0.02) / (3 if base == "mse" else 1)
    rates = np.full(steps, rate)
    if schedule:
        rates = rate * np.interp(np.arange(steps) / steps, [0, 0.3, 1], [0, 1, 0.1])
    gammas = Schedule(C, 5.0, 17, 1, steps - 100).gamma(np.arange(steps))
    chosen = perceptron.batches(P, size, SEED, steps)
    per_epoch = 1 if size is None else -(-P // size)
    recorded = np.arange(steps) % per_epoch == 0
    given_all = parts, X, y, groups, gammas, rates, chosen
    wanted, rows = perceptron.by_numpy(*given_all, recorded, base, **how)
    if torch:
        other = perceptron.by_torch(*given_all, base, **how)
        np.testing.assert_allclose(other, wanted, rtol=0, atol=1e-9)
    points = Points.prepare(X, y, C, "float64", groups if grouped else None, depth)
    some = Points.prepare(X[:9], y[:9], C, "float64", depth=depth)
    network = FusedNetwork(
        perceptron.flat(parts),
        W,
        points,
        some,
        C,
        depth=depth,
        base=base,
        optimiser=Optimiser(how["optimizer"], how["momentum"], how["nesterov"], how["decay"]),
        batches=None if size is None else Batches(size, SEED),
    )
    assert network.parameters == len(wanted)
    np.testing.assert_array_equal(network.theta, perceptron.flat(parts))
    # In two calls, the second of which begins within an epoch.
    half = steps // 2 + 1
    measures = [
        network.run(gammas[some], rates[some], recorded[some])
        for some in (slice(half), slice(half, steps))
    ]
    np.testing.assert_allclose(network.theta, wanted, rtol=0, atol=1e-9)
    for column, name in enumerate(("train_loss", "dynamical_loss", "train_correct")):
        found = np.concatenate([getattr(one, name) for one in measures])
        found = found.sum(axis=1) if found.ndim > 1 else found
        np.testing.assert_allclose(found, rows[:, column], rtol=0, atol=1e-9)
    right = perceptron.losses(parts, X[:9], y[:9], np.ones(9), base)
    assert measures[0].val_loss[0] == pytest.approx(right[0], abs=1e-12)
    assert measures[0].val_correct[0].sum() == right[2]


@pytest.fixture(autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.mark.parametrize(
    "case",
    [
        (2, 3, 17, 1, "momentum", "cross_entropy", 30, True),
        (2, 3, 8, 1, "adam", "mse", None, False),
        (2, 10, 8, 1, "adamw", "cross_entropy", 7, True),
        (7, 2, 1, 1, "nesterov", "mse", 1, False),
        (64, 10, 17, 1, "adam with decay", "cross_entropy", 30, False),
        (64, 3, 100, 1, "decay", "mse", 100, True),
        (2, 3, 100, 2, "momentum", "cross_entropy", None, False),
        (7, 10, 17, 3, "adam", "cross_entropy", 7, True),
        (2, 2, 8, 2, "nesterov", "mse", 30, True),
        (64, 2, 1, 3, "plain", "cross_entropy", 1, False),
        (7, 3, 100, 3, "adamw", "mse", 100, False),
    ],
    ids=lambda case: " ".join(map(str, case)),
)
def test_combinations(case):
    compare(*case)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    st.sampled_from([(2, 2), (2, 3), (2, 10), (7, 3), (64, 10), (7, 10)]),
    st.sampled_from([1, 8, 17, 100]),
    st.integers(1, 3),
    st.sampled_from(sorted(OPTIMISERS)),
    st.sampled_from(["cross_entropy", "mse"]),
    st.sampled_from([None, 1, 7, 30, 100]),
    st.booleans(),
    st.booleans(),
)
def test_drawn_combinations(sizes, W, depth, optimiser, base, size, schedule, grouped):
    compare(*sizes, W, depth, optimiser, base, size, schedule, grouped)


def test_the_order_is_numpys():
    """As `numpy.random.default_rng([seed, epoch]).permutation` has it, also of large numbers."""
    cases = [(1, 0, 0), (2, 1, 5), (300, 11, 3), (257, 0, 2**32 + 7), (70_000, 2**32 - 3, 2**31)]
    for count, seed, epoch in cases:
        found = np.empty(count, np.int64)
        _shuffled(found, seed, epoch)
        expected = np.random.default_rng([seed, epoch]).permutation(count)
        np.testing.assert_array_equal(found, expected)


@njit
def _shuffled(order, seed, epoch):
    shuffle(order, seed, epoch)


def test_what_gets_no_gradient_ends_in_zero_and_the_mode_of_the_thread_stays():
    # The second unit is dead on all points: its momentum falls by 0.9 a step, in float32 below the
    # normal numbers after some 900 steps. Left there, it never ends, and costs a hundredfold.
    rng = np.random.default_rng(5)
    X, y = rng.normal(size=(20, 2)), rng.integers(0, 2, 20)
    parts = perceptron.draw(rng, [2, 2, 2])
    parts[1][1] = -100.0
    points = Points.prepare(X, y, 2, "float32")
    decay = Optimiser("sgd", momentum=0.9, weight_decay=0.5)
    network = FusedNetwork(perceptron.flat(parts), 2, points, None, 2, optimiser=decay)
    steps = 3000
    network.run(np.ones((steps, 2)), np.full(steps, 0.1), np.zeros(steps, bool))
    tiny = np.finfo(np.float32).tiny
    dead = np.abs(network.theta[[1, 3]])
    assert np.all((dead == 0) | (dead >= tiny))
    assert np.float32(tiny) * np.float32(0.5) > 0  # subnormal numbers are NumPy's as before
