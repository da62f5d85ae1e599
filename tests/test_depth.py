"""Deeper perceptrons through the command's own path, and how a training in batches diverges."""

import warnings

import numpy as np
import pytest

import perceptron
import tiltcli
from dense import dense
from tiltcli.errors import UserError
from tiltcli.grid import parse_sweep
from tiltcli.schedule import Schedule

ENGINES = ["fused", "torch"]
P, D, C, W = 33, 3, 3, 5


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(4)
    X, y = rng.normal(size=(P, D)), rng.permutation(np.arange(P) % C)
    np.savez(tmp_path / "data.npz", X=X, y=y, X_test=X[:7], y_test=y[:7])
    return X, y


def save_weights(folder, depth):
    parts = perceptron.draw(np.random.default_rng(depth), [D, *[W] * depth, C])
    names = [f"{letter}{k}" for k in range(1, depth + 2) for letter in "Wb"]
    np.savez(folder / "weights.npz", **dict(zip(names, parts, strict=True)))
    return parts


def grid(folder, name, depth, **train):
    return {
        "name": name,
        "data": {"kind": "file", "path": str(folder / "data.npz")},
        "model": {"width": W, "depth": depth},
        "loss": {"amplitude": 4, "period": 6},
        "train": {"epochs": 20, "lr": 0.1, "dtype": "float64", "log_every": 1} | train,
    }


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", ["full", 10])
def test_two_hidden_layers_equal_numpy(tmp_path, data, engine, size):
    X, y = data
    parts = save_weights(tmp_path, 2)
    job = grid(tmp_path, "two", 2, batch_size=size, seeds=[3], momentum=0.5)
    job["model"]["init_file"] = str(tmp_path / "weights.npz")
    tiltcli.sweep(job, results=tmp_path, engine=engine, workers=0)
    tables = tiltcli.read("two", tmp_path)
    per_epoch = 1 if size == "full" else 4
    steps = 20 * per_epoch
    gammas = Schedule(C, 4, 6).gamma(np.arange(steps + 1))
    chosen = perceptron.batches(P, None if size == "full" else size, 3, steps)
    how = {"optimizer": "sgd", "momentum": 0.5, "nesterov": False, "decay": 0.0}
    recorded = np.arange(steps) % per_epoch == 0
    given = parts, X, y, y, gammas, np.full(steps, 0.1), chosen, recorded, "cross_entropy"
    theta, rows = perceptron.by_numpy(*given, **how)
    found = tables.metrics[["train_loss", "dynamical_loss", "train_accuracy"]].to_numpy()
    np.testing.assert_allclose(found[:-1], rows / [1, 1, P], rtol=0, atol=1e-11)
    last, cuts = [], np.cumsum([part.size for part in parts])[:-1]
    for flat, part in zip(np.split(theta, cuts), parts, strict=True):
        last.append(flat.reshape(part.shape))
    expected = perceptron.losses(last, X[:7], y[:7], np.ones(7), "cross_entropy")
    assert tables.jobs["test_loss"].iloc[0] == pytest.approx(expected[0], abs=1e-11)
    assert tables.jobs["parameters"].iloc[0] == theta.size


def test_engines_agree_on_drawn_layers(tmp_path, data):
    found = {}
    for engine in ENGINES:
        tiltcli.sweep(grid(tmp_path, engine, [1, 3]), results=tmp_path, engine=engine, workers=0)
        found[engine] = tiltcli.read(engine, tmp_path)
    fused, torch = (found[engine].metrics["train_loss"] for engine in ENGINES)
    np.testing.assert_allclose(fused, torch, rtol=0, atol=1e-12)
    counts = dict(found["fused"].jobs[["model.depth", "parameters"]].to_numpy().tolist())
    assert counts == {1: D * W + W + W * C + C, 3: D * W + W + 2 * (W * W + W) + W * C + C}


def test_one_hidden_layer_is_what_it_was():
    """The setting came later: a job that does not mention it keeps its identity."""
    text = '[data]\nkind = "spiral"\n[model]\nwidth = 3\n[loss]\nkind = "static"\n'
    text += "[train]\nepochs = 9\n"
    plain = parse_sweep(text, name="x", folder=".").jobs[0]
    one, two = (
        parse_sweep(text.replace("width = 3", f"width = 3\ndepth = {depth}"), name="x", folder=".")
        for depth in (1, 2)
    )
    assert one.jobs[0].id == plain.id != two.jobs[0].id


@pytest.mark.parametrize("depth", [1, 3])
def test_an_init_file_of_another_depth_is_refused(tmp_path, data, depth):
    save_weights(tmp_path, 2)
    job = grid(tmp_path, "other", depth)
    job["model"]["init_file"] = str(tmp_path / "weights.npz")
    with pytest.raises(UserError, match=r"W3|W4") as error:
        tiltcli.sweep(job, results=tmp_path, workers=0)
    assert ("model.depth = 1" if depth == 1 else "has no array W4") in str(error.value)
    assert not (tmp_path / "other").exists()


def test_depth_zero_is_refused(tmp_path, data):
    with pytest.raises(UserError, match=r"model\.depth: got 0; allowed: a whole number ≥ 1"):
        tiltcli.sweep(grid(tmp_path, "none", 0), results=tmp_path, workers=0)


def test_probes_of_two_hidden_layers(tmp_path, data):
    import torch

    from tiltcli.networks.models import Perceptron

    X, y = data
    parts = save_weights(tmp_path, 2)
    job = grid(tmp_path, "probed", 2) | {"probe": {"every": 20, "quantities": ["hessian", "ntk"]}}
    job["model"]["init_file"] = str(tmp_path / "weights.npz")
    tiltcli.sweep(job, results=tmp_path, workers=0)
    row = tiltcli.read("probed", tmp_path).probes.iloc[0]
    names = [f"{letter}{k}" for k in (1, 2, 3) for letter in "Wb"]
    network = Perceptron(dict(zip(names, parts, strict=True)), torch.float64)
    gamma = Schedule(C, 4, 6).gamma(np.arange(1))[0]
    _, H, J = dense(network, "cross_entropy", X, y, gamma)
    assert row["hessian_max"] == pytest.approx(np.linalg.eigvalsh(H)[-1], rel=1e-7)
    traced = sum(J[:, c] @ J[:, c].T for c in range(C)) / C
    assert row["ntk_max"] == pytest.approx(np.linalg.eigvalsh(traced)[-1], rel=1e-7)


@pytest.mark.parametrize(
    ("lr", "every", "size"),
    [(5.0, 1, 10), (5.0, 100, 10), (1e4, 1, 10), (1e200, 100, 10), (1e308, 1, "full")],
)
def test_they_diverge_alike(tmp_path, data, lr, every, size):
    """A batch shows it: the same row, epoch, accuracy and words from both engines."""
    found = []
    for engine in ENGINES:
        job = grid(tmp_path, engine, 2, batch_size=size, lr=lr, log_every=every, momentum=0.9)
        if size == "full":  # infinite in float32
            job["train"]["dtype"] = "float32"
        else:
            job["loss"]["base"] = "mse"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tiltcli.sweep(job, results=tmp_path, engine=engine, workers=0)
        found.append(tiltcli.read(engine, tmp_path))
    assert set(found[0].jobs["outcome"]) == {"diverged"}
    for column in ("outcome", "epochs"):
        assert found[0].jobs[column].tolist() == found[1].jobs[column].tolist()
    fused, torch = (one.metrics for one in found)
    same = ["epoch", "step", "train_accuracy", "val_accuracy"]
    assert fused[same].equals(torch[same])
    np.testing.assert_allclose(fused["train_loss"], torch["train_loss"], rtol=1e-6)
    if lr == 1e308:
        assert fused["train_accuracy"].iloc[-1] == 0  # all logits are NaN: no guess is right
