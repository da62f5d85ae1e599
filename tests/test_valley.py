"""Valleys have the reference's floors and widths; weights trained again are the run's.

valley_a.npz: of the paper's Fig. 4 run (see losses_a.npz in test_instability.py), every 125 steps,
in an independent float64 program (JAX): `lam` the largest eigenvalue of the dense Hessian of F;
`F_min`, `alpha_min` and `width` (0.02 above the floor) of F along its unit eigenvector; `slice_F`
along `alpha` for the steps `slice_of`. Index i is the tool's step i + 1; the sign of an eigenvector
is arbitrary.
"""

import numpy as np
import pytest

import oracle
from helpers import fig4_network
from tiltcli.analysis.retraining import weights_at
from tiltcli.analysis.valleys import Slicer, line, losses_along, phase_steps, shape_of
from tiltcli.data import Part, dataset_of
from tiltcli.errors import UserError
from tiltcli.grid import parse_sweep

FIG4 = """
[data]
kind = "spiral"
[model]
width = 100
init_file = "weights.npz"
[loss]
kind = "dynamical"
amplitude = 70
period = 5000
rest = 1
settle = 5000
[train]
epochs = 70000
dtype = "float64"
"""


@pytest.fixture(scope="module")
def fig4(tmp_path_factory):
    folder = tmp_path_factory.mktemp("valley")
    with np.load("tests/data/run_a.npz") as case:
        np.savez(folder / "weights.npz", **{k: case[k] for k in ("W1", "b1", "W2", "b2")})
    (job,) = parse_sweep(FIG4, name="fig4", folder=folder).jobs
    return job, dataset_of(job)


@pytest.fixture(scope="module")
def reference():
    with np.load("tests/data/valley_a.npz") as found:
        return dict(found)


def test_valleys_of_the_reference(fig4, reference):
    """Up to step 4500 the trajectories are the same; the mid-pulse after it still is close."""
    job, data = fig4
    early = [i for i, step in enumerate(reference["step"]) if step <= 4500 and step % 500 == 0]
    late = int(np.flatnonzero(reference["step"] == 7500)[0])
    chosen = [*early, late]
    snapshots = weights_at(job, data, [int(reference["step"][i]) + 1 for i in chosen], "fused")
    slices = Slicer(job, data).along(snapshots)
    for i, one in zip(chosen, slices, strict=True):
        loose = 1.0 if i != late else 1e5
        np.testing.assert_allclose(one.gamma, reference["gamma"][i], atol=1e-12)
        assert one.hessian_max == pytest.approx(reference["lam"][i], rel=1e-8 * loose)
        assert one.valley.depth == pytest.approx(reference["F_min"][i], abs=1e-9 * loose)
        assert one.valley.width == pytest.approx(reference["width"][i], abs=1e-7 * loose)
        assert abs(one.valley.at) == pytest.approx(abs(reference["alpha_min"][i]), abs=0.026)
        if reference["step"][i] in reference["slice_of"] and i != late:
            wanted = reference["slice_F"][list(reference["slice_of"]).index(reference["step"][i])]
            away = [np.abs(F - wanted).max() for F in (one.losses, one.losses[::-1])]
            assert min(away) < 1e-8


def test_weights_trained_again_are_those_of_the_kernel(fig4):
    job, data = fig4
    theta, _, schedule = fig4_network()
    (first, second) = weights_at(job, data, [0, 40], "fused")
    np.testing.assert_array_equal(first.theta, theta)
    _, wanted = oracle.descend(
        theta, data.train.X, data.train.y, 100, schedule.gamma(np.arange(40)), 1.0
    )
    np.testing.assert_allclose(second.theta, wanted, atol=1e-13)
    assert (second.epoch, second.step) == (40, 40)
    assert weights_at(job, data, [], "fused") == []


def test_weights_beyond_a_divergence_are_refused(tmp_path):
    text = FIG4.replace('init_file = "weights.npz"', "").replace("[train]", "[train]\nlr = 1e4")
    (job,) = parse_sweep(text, name="wild", folder=tmp_path).jobs
    with pytest.raises(UserError, match="has no weights at epoch 500: diverged at epoch"):
        weights_at(job, dataset_of(job), [0, 500], "fused")


def some_network(seed=0, width=7, classes=3, inputs=2):
    draw = np.random.default_rng(seed)
    size = inputs * width + width + width * classes + classes
    part = Part(draw.standard_normal((40, inputs)), draw.integers(0, classes, 40))
    return draw.standard_normal(size), draw.standard_normal(size), part


@pytest.mark.parametrize("base", ["cross_entropy", "mse"])
def test_losses_along_a_line_are_those_at_its_points(base):
    theta, direction, part = some_network()
    gamma = np.array([2.0, 0.6, 0.4])
    alphas = np.array([-1.5, 0.0, 0.3])
    shares = losses_along(theta, direction, alphas, part, 7, 3, base)
    for alpha, share in zip(alphas, shares, strict=True):
        point = theta + alpha * direction
        if base == "mse":
            z = oracle.forward(point, part.X, 7, 3)[1]
            each = ((z - np.eye(3)[part.y]) ** 2).sum(axis=1)
            L, F = each.mean(), (gamma[part.y] * each).mean()
        else:
            L, F = oracle.losses(point, part.X, part.y, 7, 3, gamma)[:2]
        assert share.sum() == pytest.approx(L, rel=1e-13)
        assert share @ gamma == pytest.approx(F, rel=1e-13)


def test_shape_of_a_parabola():
    alphas = line()
    found = shape_of(alphas, 0.3 + 0.5 * (alphas - 0.5) ** 2)
    assert (found.depth, found.at) == (pytest.approx(0.3), pytest.approx(0.5))
    # F < floor + 0.02 within ±√0.04 of it; linear interpolation between points 0.025 apart.
    assert found.width == pytest.approx(0.4, abs=2e-3)
    assert np.isnan(shape_of(alphas, alphas).width)
    assert np.isnan(shape_of(alphas, np.full(alphas.shape, 0.1)).width)


def test_phases_of_a_pulse():
    assert phase_steps(5001, 5000, 5, 70_000) == [5001, 6251, 7501, 8751, 10_001]
    assert phase_steps(5001, 5000, 5, 8000) == [5001, 6251, 7501]
    assert phase_steps(0, 3, 9, 100) == [0, 1, 2, 3]
