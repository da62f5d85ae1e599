"""Curvature of single weights against dense matrices made by automatic differentiation."""

import numpy as np
import pytest
import torch

from dense import dense
from tiltcli.curvature.autograd import AutogradCurvature
from tiltcli.curvature.compiled import CompiledCurvature
from tiltcli.curvature.deep_perceptron import LayeredCurvature
from tiltcli.curvature.lanczos import extreme_eigenvalues
from tiltcli.curvature.points import kernel_points
from tiltcli.curvature.spectrum import SIGNS
from tiltcli.data import Dataset, Part
from tiltcli.networks.initial import MYRTLE5_POOLS, Weights
from tiltcli.networks.models import Myrtle5, Perceptron

HESSIAN = ["hessian_max", "hessian_second", "hessian_third", "hessian_min", "hessian_trace"]


def assert_right(curvature, theta, gamma, H, J, *, exact=True):
    values = np.linalg.eigvalsh(H)
    found = curvature.hessian(theta, gamma)
    wanted = [*values[:-4:-1], values[0], np.trace(H)]
    scale = values[-1]
    for name, value in zip(HESSIAN, wanted, strict=True):
        if name == "hessian_trace" and not exact:
            assert abs(found[name] - value) < 5 * found["hessian_trace_error"]
            # Hutchinson's variance for random signs: twice the squares off the diagonal.
            spread = np.sqrt(2 * (np.sum(H**2) - np.sum(np.diag(H) ** 2)) / SIGNS)
            assert 0.6 < found["hessian_trace_error"] / spread < 1.6
        else:
            assert found[name] == pytest.approx(value, rel=1e-7, abs=1e-9 * scale), name
    if exact:
        assert found["hessian_trace_error"] == 0
    assert curvature.hessian_max(theta, gamma) == pytest.approx(values[-1], rel=1e-9)
    classes = J.shape[1]
    traced = sum(J[:, k] @ J[:, k].T for k in range(classes)) / classes
    full = J.reshape(-1, J.shape[-1])
    kernel = curvature.ntk(theta)
    assert kernel["ntk_max"] == pytest.approx(np.linalg.eigvalsh(traced)[-1], rel=1e-9)
    assert kernel["ntk_max_full"] == pytest.approx(np.linalg.eigvalsh(full @ full.T)[-1], rel=1e-9)


def hidden_layer(P, D, W, C, seed=0):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(P, D)), rng.integers(0, C, P)
    y[:C] = np.arange(C)
    weights = Weights(*(rng.normal(size=s) * 0.7 for s in ((D, W), (W,), (W, C), (C,))))
    parameters = {name: getattr(weights, name) for name in ("W1", "b1", "W2", "b2")}
    network = Perceptron(parameters, torch.float64)
    gamma = rng.uniform(0.1, 2.0, C)
    data = Dataset(Part(X, y), None, None, C, tuple(map(str, range(C))))
    return network, data, gamma * C / gamma.sum()


@pytest.mark.parametrize("base", ["cross_entropy", "mse"])
@pytest.mark.parametrize(
    ("P", "D", "W", "C"),
    [(41, 5, 7, 4), (30, 2, 1, 2), (25, 3, 20, 3), (20, 12, 4, 6), (6, 2, 12, 3)],
)
def test_one_hidden_layer(base, P, D, W, C):
    network, data, gamma = hidden_layer(P, D, W, C)
    for weights in (gamma, np.ones(C)):
        theta, H, J = dense(network, base, data.train.X, data.train.y, weights)
        some = CompiledCurvature(data, W, base, np.arange(P))
        assert_right(some, theta, weights, H, J)
        other = AutogradCurvature(
            network, base, data.train.X, data.train.y, data.train.y, np.arange(P), C
        )
        assert_right(other, theta, weights, H, J, exact=False)


@pytest.mark.parametrize("base", ["cross_entropy", "mse"])
@pytest.mark.parametrize(
    ("P", "D", "W", "C", "depth"), [(41, 5, 7, 4, 2), (30, 2, 4, 2, 4), (25, 3, 9, 3, 3)]
)
def test_several_hidden_layers(base, P, D, W, C, depth):
    rng = np.random.default_rng(depth)
    X, y, group = rng.normal(size=(P, D)), rng.integers(0, C, P), rng.integers(0, C, P)
    units = [D, *[W] * depth, C]
    parameters = {}
    for k in range(depth + 1):
        parameters[f"W{k + 1}"] = rng.normal(size=(units[k], units[k + 1])) * 0.7
        parameters[f"b{k + 1}"] = rng.normal(size=units[k + 1]) * 0.7
    network = Perceptron(parameters, torch.float64)
    data = Dataset(Part(X, y, y), None, None, C, tuple(map(str, range(C))))
    gamma = rng.uniform(0.1, 2.0, C)
    theta, H, J = dense(network, base, X, y, gamma)
    curvature = LayeredCurvature(data, W, depth, base, np.arange(P))
    assert_right(curvature, theta, gamma, H, J)
    product = curvature.hessian_product(theta, gamma)
    np.testing.assert_allclose(
        np.stack([product(unit) for unit in np.eye(len(H))]), H, atol=1e-12 * np.abs(H).max()
    )
    some = np.arange(0, P, 2)
    _, H, _ = dense(network, base, X[some], y[some], gamma)
    product = curvature.on(some).hessian_product(theta, gamma)
    v = rng.normal(size=len(H))
    np.testing.assert_allclose(product(v), H @ v, atol=1e-11 * np.abs(H).max())
    # Groups that are not the classes weigh likewise.
    other = LayeredCurvature(
        Dataset(Part(X, y, group), None, None, C, data.labels), W, depth, base, np.arange(P)
    )
    by_torch = AutogradCurvature(network, base, X, y, group, np.arange(P), C)
    expected = by_torch.gradient(theta, gamma)
    np.testing.assert_allclose(other.gradient(theta, gamma), expected, atol=1e-12)


def test_weights_of_the_reference():
    """Snapshots of the paper's run with eigenvalues computed elsewhere."""
    with np.load("tests/data/run_a.npz") as case:
        data = Dataset(Part(case["X"], case["y"].astype(np.int64)), None, None, 3, ("0", "1", "2"))
    whole = CompiledCurvature(data, 100, "cross_entropy", np.arange(300))
    first = CompiledCurvature(data, 100, "cross_entropy", np.arange(50))
    with np.load("tests/data/curvature_a.npz") as reference:
        for step, theta in zip(reference["snap_step"], reference["snap_params"], strict=True):
            (i,) = np.flatnonzero(reference["step"] == step)
            found = whole.hessian(theta, reference["gamma"][i])
            top = [found[name] for name in HESSIAN[:3]]
            np.testing.assert_allclose(top, reference["hess_w_top3"][i], rtol=1e-10)
            assert found["hessian_min"] == pytest.approx(reference["hess_w_min"][i], rel=1e-9)
            flat = whole.hessian_max(theta, np.ones(3))
            assert flat == pytest.approx(reference["hess_std_top3"][i, 0], rel=1e-10)
            kernel = whole.ntk(theta)
            assert kernel["ntk_max"] == pytest.approx(reference["ntk300_traced"][i], rel=1e-10)
            assert kernel["ntk_max_full"] == pytest.approx(reference["ntk900_full"][i], rel=1e-10)
            fifty = first.ntk(theta)["ntk_max"]
            assert fifty == pytest.approx(reference["ntk50_traced"][i], rel=1e-10)


@pytest.mark.parametrize("base", ["cross_entropy", "mse"])
def test_a_convolutional_network_in_pieces(base, monkeypatch):
    from tiltcli.curvature import autograd

    monkeypatch.setattr(autograd, "PIECE", 5)
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(12, 2, 8, 8)), np.arange(12) % 3
    sizes = [(2, 2), *[(2, 2)] * (len(MYRTLE5_POOLS) - 1)]
    parameters = {}
    for layer, (width, channels) in enumerate(sizes, 1):
        parameters[f"conv{layer}.weight"] = rng.normal(size=(width, channels, 3, 3)) * 0.4
        parameters[f"conv{layer}.bias"] = rng.normal(size=width) * 0.2
    parameters["dense.weight"] = rng.normal(size=(3, 2))
    parameters["dense.bias"] = rng.normal(size=3) * 0.1
    network = Myrtle5(parameters, torch.float64)
    gamma = np.array([0.5, 0.5, 2.0])
    theta, H, J = dense(network, base, X, y, gamma)
    curvature = AutogradCurvature(network, base, X, y, y, np.arange(12), 3)
    assert_right(curvature, theta, gamma, H, J, exact=False)


def test_repeated_eigenvalues_are_all_found():
    rng = np.random.default_rng(0)
    Q, _ = np.linalg.qr(rng.normal(size=(40, 40)))
    A = Q @ np.diag([5.0, 5.0, 5.0, 2.0, *[0.0] * 35, -1.0]) @ Q.T
    found = extreme_eigenvalues(lambda v: A @ v, 40, 4, 2)
    np.testing.assert_allclose(found, [5, 5, 5, 2, -1, 0], atol=1e-8)


def test_what_does_not_converge_is_missing(monkeypatch):
    from tiltcli.curvature import lanczos

    monkeypatch.setattr(lanczos, "MOST", 8)
    spread = np.linspace(0, 1, 400)
    found = extreme_eigenvalues(lambda v: spread * v, 400, 1, 1)
    assert np.isnan(found).all()
    spread[-1] = 100.0
    found = extreme_eigenvalues(lambda v: spread * v, 400, 1, 1)
    assert found[0] == pytest.approx(100)
    assert np.isnan(found[1])
    assert np.isnan(extreme_eigenvalues(lambda v: v * np.nan, 9, 1)).all()


def test_points_of_the_kernel():
    few = np.repeat(np.arange(4), 10)
    assert kernel_points(few, None).tolist() == list(range(40))
    assert kernel_points(few, 7).tolist() == list(range(7))
    many = np.repeat([0, 1, 2], [3000, 60, 900])
    chosen = kernel_points(many, None)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert np.bincount(many[chosen]).tolist() == [220, 60, 220]
    assert kernel_points(many, None).tolist() == chosen.tolist()
