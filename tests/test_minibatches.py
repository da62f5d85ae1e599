"""Minibatches and optimisers of both engines against a plain NumPy loop."""

import numpy as np
import pytest

import tiltcli
from helpers import save_case
from oracle import losses
from tiltcli.schedule import Schedule

P, D, C, W = 37, 2, 3, 6
EPOCHS, SIZE = 12, 10  # the last batch of an epoch has 7


def sgd(theta, gradient, state, rate, *, momentum, nesterov=False, decay=0.0):
    gradient = gradient + decay * theta
    velocity = gradient if "v" not in state else momentum * state["v"] + gradient
    state["v"] = velocity
    return theta - rate * (gradient + momentum * velocity if nesterov else velocity)


def adam(theta, gradient, state, rate, *, decay=0.0, decoupled=False):
    """Kingma and Ba (2015); decoupled: Loshchilov and Hutter (2019)."""
    if decoupled:
        theta = theta * (1 - rate * decay)
    else:
        gradient = gradient + decay * theta
    t = state["t"] = state.get("t", 0) + 1
    m = state["m"] = 0.9 * state.get("m", 0) + 0.1 * gradient
    v = state["v"] = 0.999 * state.get("v", 0) + 0.001 * gradient**2
    return theta - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)


CASES = {
    "momentum": ({"momentum": 0.9}, lambda *a: sgd(*a, momentum=0.9)),
    "nesterov": (
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
        lambda *a: sgd(*a, momentum=0.8, nesterov=True, decay=0.01),
    ),
    "decay": ({"weight_decay": 0.1}, lambda *a: sgd(*a, momentum=0.0, decay=0.1)),
    "adam": ({"optimizer": "adam", "weight_decay": 0.1}, lambda *a: adam(*a, decay=0.1)),
    "adamw": (
        {"optimizer": "adamw", "weight_decay": 0.1},
        lambda *a: adam(*a, decay=0.1, decoupled=True),
    ),
}


@pytest.mark.parametrize("engine", ["fused", "torch"])
@pytest.mark.parametrize("name", CASES)
def test_against_numpy(tmp_path, name, engine):
    settings, move = CASES[name]
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(P, D)), rng.integers(0, C, P)
    y[:C] = range(C)
    parts = [0.5 * rng.normal(size=s) for s in ((D, W), W, (W, C), C)]
    save_case(tmp_path, X, y, *parts)
    grid = {
        "name": "m",
        "data": {"kind": "file", "path": str(tmp_path / "data.npz")},
        "model": {"width": W, "init_file": str(tmp_path / "weights.npz")},
        "loss": {"amplitude": 5, "period": 6, "rest": 1, "settle": 10},
        "train": {
            "epochs": EPOCHS,
            "batch_size": SIZE,
            "lr": 0.05,
            "lr_schedule": [[0.0, 0.2], [0.5, 1.0], [1.0, 0.0]],
            "dtype": "float64",
            "seeds": [11],
            "log_every": 1,
            **settings,
        },
    }
    tiltcli.sweep(grid, results=tmp_path, engine=engine, workers=0)
    rows = tiltcli.read("m", tmp_path).metrics
    per_epoch = 4
    total = EPOCHS * per_epoch
    gammas = Schedule(C, 5, 6, 1, total - 10).gamma(np.arange(total + 1))
    rates = 0.05 * np.interp(np.arange(total + 1) / total, [0, 0.5, 1], [0.2, 1, 0])
    theta, state, expected = np.concatenate([p.ravel() for p in parts]), {}, []
    for epoch in range(EPOCHS + 1):
        step = epoch * per_epoch
        L, F, right, _ = losses(theta, X, y, W, C, gammas[step])
        expected.append((epoch, step, L, F, right / P, rates[step]))
        if epoch == EPOCHS:
            break
        order = np.random.default_rng([11, epoch]).permutation(P)
        for number in range(per_epoch):
            batch = order[number * SIZE : (number + 1) * SIZE]
            gradient = losses(theta, X[batch], y[batch], W, C, gammas[step + number])[3]
            theta = move(theta, gradient, state, rates[step + number])
    columns = ["epoch", "step", "train_loss", "dynamical_loss", "train_accuracy", "lr"]
    np.testing.assert_allclose(rows[columns], expected, rtol=0, atol=1e-9)
    assert len({L for _, _, L, *_ in expected}) == EPOCHS + 1


def test_pieces_add_up(tmp_path, monkeypatch):
    """A batch that goes through in pieces gives what it gives as a whole."""
    import torch

    from tiltcli.data import dataset_of
    from tiltcli.engines import Context
    from tiltcli.engines.torch import loop as torch_loop
    from tiltcli.engines.torch import state as training
    from tiltcli.grid import parse_sweep

    text = """
    [data]
    kind = "digits"
    [model]
    kind = "myrtle5"
    width = 3
    [loss]
    amplitude = 4
    period = 3
    [train]
    epochs = 2
    batch_size = {size}
    momentum = 0.9
    lr = 0.02
    dtype = "float64"
    log_every = 1
    """
    for size in ('"full"', "100"):
        job = parse_sweep(text.format(size=size), name="x", folder=tmp_path).jobs[0]
        found = []
        for limit in (1 << 30, 3 * 64 * 8 * 31):
            monkeypatch.setitem(training.PIECE_BYTES, "cpu", limit)
            run = training.Training(job, dataset_of(job), torch.device("cpu"), lambda: False)
            assert run.piece == (31 if limit < 1 << 30 else limit // (3 * 64 * 8))
            blocks = list(torch_loop.train(job, dataset_of(job), Context(device="cpu")))
            found.append(np.concatenate([b.dynamical_loss for b in blocks[:-1]]))
        assert len(found[0]) == 3
        np.testing.assert_allclose(found[0], found[1], atol=1e-11)
