"""What each optimiser's bound is for, against dense matrices and torch's own optimisers."""

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

import tiltcli
from dense import dense
from helpers import write_grid
from tiltcli.analysis.retraining import weights_at
from tiltcli.analysis.traces import jobs_of, trace_of
from tiltcli.data import dataset_of
from tiltcli.networks.models import network_of

GRID = """
[data]
kind = "spiral"
points_per_class = 12
[model]
width = 5
depth = {depth}
[loss]
kind = "dynamical"
amplitude = 6
period = 30
[train]
epochs = 40
lr = {lr}
dtype = "float64"
log_every = 1
{more}
[probe]
every = 9
quantities = ["hessian"]
"""


def probed(folder, name, engine="fused", depth=1, lr=0.05, more=""):
    """Trace of the one job, its weights at epoch 27, and a network that has them."""
    grid = write_grid(folder, GRID.format(depth=depth, lr=lr, more=more), name)
    tiltcli.sweep(grid, results=folder, engine=engine, workers=0)
    tables = tiltcli.read(name, folder)
    (job,) = jobs_of(folder / name, list(tables.jobs["job"]))
    (snapshot,) = weights_at(job, dataset_of(job), [27], engine)
    data = dataset_of(job)
    network = network_of(job, data.sample_shape, data.classes, torch.float64)
    vector_to_parameters(torch.from_numpy(snapshot.theta), network.parameters())
    return trace_of(tables, job), snapshot, network, data


@pytest.mark.parametrize("engine", ["fused", "torch"])
@pytest.mark.parametrize(("name", "decay"), [("adam", 0.0), ("adam", 0.1), ("adamw", 0.1)])
def test_preconditioned_hessian_of_adam(tmp_path, engine, name, decay):
    more = f'optimizer = "{name}"\nweight_decay = {decay}'
    one, snapshot, network, data = probed(tmp_path, "adam", engine, more=more)
    # The same training by torch's own optimiser, from the same start.
    (start,) = weights_at(one.job, data, [0], engine)
    assert start.preconditioner is None
    vector_to_parameters(torch.from_numpy(start.theta), network.parameters())
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    optimiser = kind(network.parameters(), lr=0.05, weight_decay=decay)
    X, y = torch.from_numpy(data.train.X), torch.from_numpy(data.train.y)
    for step in range(27):
        optimiser.zero_grad()
        weights = torch.from_numpy(one.schedule.gamma(step))[y]
        each = torch.nn.functional.cross_entropy(network(X), y, reduction="none")
        (weights * each).mean().backward()
        optimiser.step()
    theta = parameters_to_vector(network.parameters()).detach().numpy()
    np.testing.assert_allclose(snapshot.theta, theta, rtol=1e-6, atol=1e-9)
    squares = torch.cat([optimiser.state[p]["exp_avg_sq"].flatten() for p in network.parameters()])
    P = (1 - 0.9**27) * (np.sqrt(squares.numpy() / (1 - 0.999**27)) + 1e-8)
    H = dense(network, "cross_entropy", data.train.X, data.train.y, snapshot.gamma.copy())[1]
    H = H + (decay if name == "adam" else 0) * np.eye(len(H))
    top = np.linalg.eigvalsh(H / np.sqrt(P[:, None] * P[None, :]))[-1]
    row = one.probes[one.probes["epoch"] == 27].iloc[0]
    assert row["hessian_max_preconditioned"] == pytest.approx(top, rel=1e-5)
    expected = 38 / 0.05 - (19 * decay if name == "adamw" else 0)
    assert row["stability_bound"] == pytest.approx(expected)
    assert one.probes["hessian_max_preconditioned"].isna().tolist() == [True] + [False] * 4
    np.testing.assert_array_equal(
        one.curvature.hessian_max, one.probes["hessian_max_preconditioned"]
    )
    np.testing.assert_allclose(one.curvature.bound, expected)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_batch_sharpness(tmp_path, depth, momentum):
    more = f"batch_size = 10\nmomentum = {momentum}"
    one, snapshot, network, data = probed(tmp_path, "batches", depth=depth, more=more)
    order, quotients = np.random.default_rng(0).permutation(36), []
    for k in range(3):
        rows = order[10 * k : 10 * k + 10]
        X, y = data.train.X[rows], data.train.y[rows]
        H = dense(network, "cross_entropy", X, y, snapshot.gamma.copy())[1]
        network.zero_grad()
        weights, labels = torch.from_numpy(snapshot.gamma[y]), torch.from_numpy(y)
        logits = network(torch.from_numpy(X))
        each = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        (weights * each).mean().backward()
        g = torch.cat([p.grad.flatten() for p in network.parameters()]).numpy()
        quotients.append(g @ H @ g / (g @ g))
    row = one.probes[one.probes["epoch"] == 27].iloc[0]
    assert row["batch_sharpness"] == pytest.approx(np.mean(quotients), rel=1e-8)
    if momentum:  # theory has no bound
        assert np.isnan(row["stability_bound"])
        assert one.bound is None
        assert one.curvature is None
    else:
        assert row["stability_bound"] == 40
        np.testing.assert_array_equal(one.curvature.hessian_max, one.probes["batch_sharpness"])


def test_the_bound_follows_the_learning_rate(tmp_path):
    more = "momentum = 0.9\nnesterov = true\nlr_schedule = [[0.0, 0.0], [0.5, 1.0], [1.0, 0.5]]"
    one, *_ = probed(tmp_path, "paced", more=more)
    factors = np.interp(np.arange(0, 40, 9) / 40, [0, 0.5, 1], [0, 1, 0.5])
    expected = 2 * 1.9 / (0.05 * factors[1:] * 2.8)
    np.testing.assert_allclose(one.probes["stability_bound"][1:], expected)
    assert np.isnan(one.probes["stability_bound"][0])
    np.testing.assert_allclose(one.bounds[1:], expected)
    assert one.bound.formula == "2(1+β)/(η(1+2β))"
