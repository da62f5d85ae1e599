"""The Lyapunov exponent along a training, against dense matrices and a pair of trajectories."""

import numpy as np
import pytest
import torch

import tiltcli
from dense import dense
from helpers import tilt, write_grid
from oracle import losses
from tiltcli.analysis.retraining import weights_at
from tiltcli.analysis.traces import jobs_of
from tiltcli.data import dataset_of
from tiltcli.engines import Context, Trail
from tiltcli.engines.mlp import fused
from tiltcli.engines.mlp.tangents import Tangents
from tiltcli.networks.models import network_of

GRID = """
[data]
kind = "spiral"
points_per_class = {points}
classes = {classes}
[model]
width = 6
depth = {depth}
[loss]
kind = "dynamical"
base = "{base}"
amplitude = 8
period = 40
[train]
epochs = 60
lr = {lr}
dtype = "{dtype}"
log_every = 5
{more}
[probe]
every = 7
quantities = ["lyapunov"]
"""


def swept(
    folder,
    name="one",
    base="cross_entropy",
    lr="0.5",
    dtype="float64",
    more="",
    classes=3,
    depth=1,
    **kwargs,
):
    text = GRID.format(
        base=base, lr=lr, dtype=dtype, more=more, depth=depth, classes=classes, points=45 // classes
    )
    tiltcli.sweep(write_grid(folder, text, name), results=folder, **kwargs)
    return tiltcli.read(name, folder)


@pytest.mark.parametrize(
    ("base", "momentum", "nesterov", "decay", "classes", "depth"),
    [
        ("cross_entropy", 0.0, False, 0.0, 3, 1),
        ("mse", 0.0, False, 0.02, 3, 1),
        ("cross_entropy", 0.8, False, 0.01, 3, 1),
        ("mse", 0.5, True, 0.0, 3, 1),
        ("cross_entropy", 0.6, True, 0.01, 11, 1),  # too many for the kernel's own products
        ("cross_entropy", 0.0, False, 0.0, 3, 2),
    ],
)
def test_exponent_against_products_of_dense_matrices(
    tmp_path, base, momentum, nesterov, decay, classes, depth
):
    more = f"momentum = {momentum}\nnesterov = {str(nesterov).lower()}\nweight_decay = {decay}"
    more = more if momentum else f"weight_decay = {decay}"
    lr = 0.5 if base == "cross_entropy" else 0.05
    more += "\nlr_schedule = [[0.0, 1.0], [1.0, 0.3]]"
    tables = swept(tmp_path, base=base, lr=lr, more=more, classes=classes, depth=depth)
    (job,) = jobs_of(tmp_path / "one", list(tables.jobs["job"]))
    data = dataset_of(job)
    network = network_of(job, data.sample_shape, data.classes, torch.float64)
    size, total, known = sum(p.numel() for p in network.parameters()), 0.0, {0: 0.0}
    v = np.random.default_rng(0).standard_normal(size * (2 if momentum else 1))
    v /= np.linalg.norm(v)
    for snapshot in weights_at(job, data, range(57), "fused"):
        known[snapshot.step] = total
        torch.nn.utils.vector_to_parameters(torch.from_numpy(snapshot.theta), network.parameters())
        H = dense(network, base, data.train.X, data.train.y, snapshot.gamma.copy())[1]
        slope = H + decay * np.eye(size)
        if momentum:
            # velocity' = β velocity + slope θ; θ' = θ − η velocity', or along slope θ + β velocity'
            fast = np.hstack([slope, momentum * np.eye(size)])
            along = np.hstack([slope, np.zeros_like(slope)]) + momentum * fast
            step = (along if nesterov else fast) * -snapshot.lr
            step[:, :size] += np.eye(size)
            v = np.vstack([step, fast]) @ v
        else:
            v = v - snapshot.lr * slope @ v
        total += np.log(np.linalg.norm(v))
        v /= np.linalg.norm(v)
    found = tables.probes.set_index("step")["lyapunov"]
    assert np.isnan(found.pop(0))
    assert list(found.index) == list(range(7, 57, 7))
    wanted = [known[step] / step for step in found.index]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    if base == "cross_entropy" and classes < 4 and depth == 1:  # made in float32; here not
        tangents = Tangents(fused.network_of(job, data), momentum, nesterov, decay)
        made = fused.train(job, data, Context(snapshots=[56], trail=True))
        growth = [tangents.grow(item) for item in made if isinstance(item, Trail)]
        sums = np.concatenate(growth).cumsum()
        np.testing.assert_allclose(sums, [known[step] for step in range(1, 57)], rtol=1e-9)


def test_exponent_against_two_trajectories(tmp_path):
    """Benettin's: a second training close by, brought back to its distance after every step."""
    tables = swept(tmp_path, lr=4.0)
    (job,) = jobs_of(tmp_path / "one", list(tables.jobs["job"]))
    data = dataset_of(job)
    every = weights_at(job, data, range(57), "fused")
    apart, total = 1e-7, 0.0
    theta = every[0].theta
    v = np.random.default_rng(0).standard_normal(theta.size)
    other = theta + apart * v / np.linalg.norm(v)
    for at in every[:-1]:
        images = []
        for one in (theta, other):
            slope = losses(one, data.train.X, data.train.y, 6, 3, at.gamma)[3]
            images.append(one - at.lr * slope)
        away = images[1] - images[0]
        total += np.log(np.linalg.norm(away) / apart)
        theta, other = images[0], images[0] + apart * away / np.linalg.norm(away)
    np.testing.assert_allclose(theta, every[-1].theta, atol=1e-9)
    found = tables.probes.set_index("step")["lyapunov"][56]
    assert found == pytest.approx(total / 56, abs=1e-4)


def test_every_job_of_other_axes_and_of_lost_trainings(tmp_path):
    """The number does not depend on what is probed, on the workers, or on the engine's blocks."""
    tables = swept(tmp_path, lr="[0.5, 1e30]", more="seeds = 2", workers=2)
    assert set(tables.jobs["outcome"]) == {"completed", "diverged"}
    lost = tables.jobs.loc[tables.jobs["outcome"] == "diverged", "job"]
    gone = tables.probes["job"].isin(lost)
    assert tables.probes.loc[~gone & (tables.probes["epoch"] > 0), "lyapunov"].notna().all()
    assert tables.probes.loc[gone, "epoch"].eq(0).all()
    again = ("probe", "one", "--quantities", "lyapunov", "--results", ".", "--workers", "0")
    none = tilt(*again, "--every", "7", cwd=tmp_path)
    assert none.returncode == 0 and "0 probes" in none.stderr, none.stderr
    some = tilt(*again, "--epochs", "0,13,14", "--where", "train.lr=0.5", cwd=tmp_path)
    assert some.returncode == 0, some.stderr
    more = tiltcli.read("one", tmp_path).probes
    kept = more[more["epoch"] != 13].reset_index(drop=True)
    np.testing.assert_array_equal(kept["lyapunov"], tables.probes["lyapunov"])
    assert more.loc[more["epoch"] == 13, "lyapunov"].notna().sum() == 2


def test_what_has_no_derivative_is_refused_beforehand(tmp_path):
    more = 'optimizer = ["sgd", "adam"]\nbatch_size = ["full", 8]'
    with pytest.raises(tiltcli.UserError) as error:
        swept(tmp_path, more=more)
    said = [str(fault) for fault in error.value.faults]
    assert len(said) == 2, said
    assert all(text.startswith("probe.quantities: ") for text in said)
    assert any('train.optimizer = "adam"; allowed: "sgd"' in text for text in said)
    assert any('train.batch_size = 8; allowed: "full"' in text for text in said)
    with pytest.raises(tiltcli.UserError, match="engine torch"):
        swept(tmp_path, engine="torch")
    tiltcli.sweep(
        write_grid(
            tmp_path,
            GRID.format(
                depth=1,
                classes=3,
                points=15,
                base="mse",
                lr=0.1,
                dtype="float32",
                more='optimizer = "adam"',
            ).partition("[probe]")[0],
            "adam",
        ),
        results=tmp_path,
    )
    words = ("probe", "adam", "--every", "9", "--quantities", "lyapunov", "--results", ".")
    refused = tilt(*words, cwd=tmp_path)
    assert refused.returncode == 2 and "--quantities" in refused.stderr
