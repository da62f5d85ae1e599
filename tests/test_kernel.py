"""The kernel's parts against NumPy: exp and log, both layouts, blocks of steps, padding."""

import numpy as np
import pytest
from numba import njit, types
from numba.extending import intrinsic

from oracle import descend
from tiltcli.engines.lanes import Lanes, addresses
from tiltcli.engines.mlp import narrow
from tiltcli.engines.mlp.kernel import FusedNetwork
from tiltcli.engines.mlp.layout import Points

DTYPES = [np.float32, np.float64]


def elementwise(name):
    @intrinsic
    def apply(_typing, x, out):
        def generate(context, builder, signature, args):
            lanes = Lanes(builder, signature.args[0].dtype)
            x, out = addresses(context, builder, signature, args)
            count = context.make_array(signature.args[0])(context, builder, args[0]).nitems

            def vector(i):
                at = lanes.offset((i, lanes.lanes))
                lanes.store(getattr(lanes, name)(lanes.load(x, at)), out, at)

            lanes.repeat(builder.sdiv(count, lanes.at(lanes.lanes)), vector)
            return context.get_dummy_value()

        return types.none(x, out), generate

    @njit
    def run(x, out):
        apply(x, out)

    def call(x):
        assert len(x) % 16 == 0
        out = np.empty_like(x)
        run(x, out)
        return out

    return call


def ulps(found, exact, dtype):
    return np.max(np.abs(found - exact) / np.spacing(np.abs(exact).astype(dtype)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_within_a_few_ulp(dtype):
    least = np.log(np.finfo(dtype).tiny.astype(np.longdouble))
    x = np.concatenate(
        [np.linspace(float(least) * 0.9999, 0, 1 << 17), -np.logspace(-12, 1, 1 << 15)]
    )
    x = x.astype(dtype)
    assert ulps(elementwise("exp")(x), np.exp(x.astype(np.longdouble)), dtype) < 2
    special = np.array([0, -0.0, -np.inf, np.nan, -1e30, 2 * float(least), -1e-30, -1] * 2, dtype)
    found = elementwise("exp")(special)[:8]
    np.testing.assert_allclose(found, [1, 1, 0, np.nan, 0, 0, 1, np.exp(-1)], rtol=3e-7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_within_a_few_ulp(dtype):
    x = np.concatenate([np.linspace(1, 3, 1 << 17), np.logspace(-30, 30, 1 << 15)]).astype(dtype)
    x = x[x != 1]
    x = x[: len(x) // 16 * 16]
    assert ulps(elementwise("log")(x), np.log(x.astype(np.longdouble)), dtype) < 2
    special = np.array([1, np.nan] * 8, dtype)
    np.testing.assert_array_equal(elementwise("log")(special), [0, np.nan] * 8)


def network(theta, W, train, val, C, dtype, recalls=False):
    """A network on raw arrays, and its training points for `evaluate`."""
    points = Points.prepare(*train, C, dtype)
    val = None if val is None else Points.prepare(*val, C, dtype)
    return FusedNetwork(theta, W, points, val, C, recalls=recalls), points


def case(P, D, C, W, seed=0):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(P, D)), rng.integers(0, C, P)
    theta = rng.normal(size=D * W + W + W * C + C) * 0.4
    return X, y, theta


# Points, inputs, classes, units: around the lanes (8, 16), the groups (32, 64) and the tile (128).
# A narrow kernel is compiled for seconds for each pair of inputs and classes: each pair is tried in
# one of the dtypes, and each number of points and units in both.
FIRST = (300, 2, 3, 100)
NARROW = {
    np.float32: [FIRST, (64, 1, 2, 16), (65, 2, 3, 17), (31, 4, 8, 1), (20, 4, 8, 40)],
    np.float64: [FIRST, (64, 2, 3, 16), (65, 5, 4, 17), (31, 5, 4, 1), (20, 2, 10, 40)],
}
TILED = [(130, 20, 10, 18), (128, 16, 17, 6), (257, 65, 2, 13), (9, 2, 11, 5)]
SIZES = [(*size, dtype) for dtype in DTYPES for size in NARROW[dtype] + TILED]


@pytest.mark.parametrize(("P", "D", "C", "W", "dtype"), SIZES)
def test_steps_equal_numpy(P, D, C, W, dtype):
    X, y, theta = case(P, D, C, W)
    rng = np.random.default_rng(1)
    gammas, steps = rng.uniform(0.3, 2, (40, C)), 40
    net, points = network(theta, W, (X, y), (X[:7], y[:7]), C, dtype)
    assert ((P, D, C, W) in TILED) == (D + C > narrow.LARGEST)
    found = net.run(gammas, np.full(steps, 0.3), np.ones(steps, bool))
    expected, after = descend(theta, X, y, W, gammas, 0.3)
    error = 1e-12 if dtype == np.float64 else 1e-5
    np.testing.assert_allclose(found.train_loss, expected[:, 0], atol=error, rtol=error)
    np.testing.assert_allclose(found.dynamical_loss, expected[:, 1], atol=error, rtol=error)
    np.testing.assert_allclose(net.theta, after, atol=10 * error)
    if dtype == np.float64:
        np.testing.assert_array_equal(found.train_correct.sum(axis=1), expected[:, 2])
        at_start, _ = descend(theta, X[:7], y[:7], W, np.ones((1, C)), 0.0)
        assert found.val_loss[0] == pytest.approx(at_start[0, 0], abs=1e-13)
        assert found.val_correct[0].sum() == at_start[0, 2]
    loss, right = net.evaluate(points)
    again, _ = descend(after, X, y, W, np.ones((1, C)), 0.0)
    assert loss == pytest.approx(again[0, 0], rel=100 * error)
    assert abs(right.sum() - again[0, 2]) <= (0 if dtype == np.float64 else 2)


@pytest.mark.parametrize(("P", "D", "C", "W"), [FIRST, TILED[0]])
@pytest.mark.parametrize("dtype", DTYPES)
def test_division_into_calls_does_not_change_a_bit(P, D, C, W, dtype):
    X, y, theta = case(P, D, C, W)
    gammas, rates = np.random.default_rng(2).uniform(0.3, 2, (50, C)), np.full(50, 0.2)
    whole, parts = (network(theta, W, (X, y), None, C, dtype)[0] for _ in range(2))
    everything = whole.run(gammas, rates, np.ones(50, bool))
    losses = []
    for begin, end in [(0, 1), (1, 20), (20, 50)]:
        span = slice(begin, end)
        losses += parts.run(
            gammas[span], rates[span], np.ones(end - begin, bool)
        ).train_loss.tolist()
    assert losses == everything.train_loss.tolist()
    np.testing.assert_array_equal(whole.theta, parts.theta)
    assert np.isnan(everything.val_loss).all()
    # Recording fewer steps, and measuring the last without updating, change nothing either.
    third, _ = network(theta, W, (X, y), (X, y), C, dtype)
    record = np.zeros(51, bool)
    record[50] = True
    third.run(np.vstack([gammas, np.ones((1, C))]), np.full(51, 0.2), record, update_last=False)
    np.testing.assert_array_equal(whole.theta, third.theta)


def test_theta_round_trip():
    for P, D, C, W in [NARROW[np.float64][2], TILED[0]]:
        X, y, theta = case(P, D, C, W)
        np.testing.assert_array_equal(network(theta, W, (X, y), None, C, "float64")[0].theta, theta)


@pytest.mark.parametrize(("P", "D", "C", "W"), [FIRST, TILED[0]])
@pytest.mark.parametrize(("spoil", "is_finite"), [(np.nan, False), (np.inf, False), (1e9, True)])
def test_bad_losses_are_noticed_at_their_step(P, D, C, W, spoil, is_finite):
    X, y, theta = case(P, D, C, W)
    theta[-C] = spoil
    net, _ = network(theta, W, (X, y), None, C, "float64")
    found = net.run(np.ones((5, C)), np.ones(5), np.zeros(5, bool))
    assert found.diverged_at == 0
    assert len(found.train_loss) == 1
    assert np.isfinite(found.train_loss[0]) == is_finite
    assert not found.train_loss[0] <= 1e6


@pytest.mark.parametrize(("recalls", "counted"), [(True, [2, 0, 0]), (False, [2])])
def test_equal_logits_count_for_the_first_class(recalls, counted):
    X, y = np.zeros((6, 2)), np.array([0, 0, 1, 1, 2, 2])
    theta = np.zeros(2 * 4 + 4 + 4 * 3 + 3)
    net, points = network(theta, 4, (X, y), None, 3, "float32", recalls)
    loss, right = net.evaluate(points)
    assert right.tolist() == counted
    assert loss == pytest.approx(np.log(3), rel=1e-6)
