"""Myrtle5 trained through the tool against an independent implementation, from given weights."""

import numpy as np
import pytest

import tiltcli
from helpers import tilt, write_grid

N, CHANNELS, SIDE, CLASSES, WIDTH = 45, 2, 12, 3, 4
EPOCHS, AMPLITUDE, PERIOD, REST = 6, 6.0, 5, 1
MOMENTUM = 0.9
NAMES = [f"conv{i}.{kind}" for i in (1, 2, 3, 4) for kind in ("weight", "bias")]
NAMES += ["dense.weight", "dense.bias"]

GRID = """
name = "pictures"
[data]
kind = "file"
path = "data.npz"
[model]
kind = "myrtle5"
width = 4
init_file = "weights.npz"
[loss]
kind = ["static", "dynamical"]
amplitude = 6
period = 5
rest = 1
[train]
epochs = 6
lr = 0.05
lr_schedule = [[0.0, 0.4], [0.5, 1.0], [1.0, 0.1]]
momentum = 0.9
batch_size = {batch_size}
dtype = "float64"
seeds = [7]
log_every = 1
"""


def forward(p, X):
    """Logits; convolutions as sums over shifted products, pools as means over reshaped places."""
    import torch

    for layer, pools in ((1, 0), (2, 1), (3, 1), (4, 3)):
        n, _, h, w = X.shape
        padded = torch.zeros(n, X.shape[1], h + 2, w + 2, dtype=X.dtype)
        padded[:, :, 1:-1, 1:-1] = X
        X = p[f"conv{layer}.bias"].reshape(1, -1, 1, 1)
        for i in range(3):
            for j in range(3):
                shifted = padded[:, :, i : i + h, j : j + w]
                X = X + torch.einsum("nchw,kc->nkhw", shifted, p[f"conv{layer}.weight"][:, :, i, j])
        X = X.clamp(min=0)
        for _ in range(pools):
            n, k, h, w = X.shape
            if h > 1:  # the pictures are square; an odd side loses its last row
                X = X[:, :, : h // 2 * 2, : w // 2 * 2].reshape(n, k, h // 2, 2, w // 2, 2)
                X = X.mean(dim=(3, 5))
    return X.flatten(1) @ p["dense.weight"].T + p["dense.bias"]


def gamma(step, dynamical):
    """Class weights by the definition, one step at a time."""
    g = np.ones(CLASSES)
    pulse, t = divmod(step, PERIOD + REST)
    if dynamical and t < PERIOD:
        rise = 2 * (AMPLITUDE - 1) * t / PERIOD
        g[pulse % CLASSES] = 1 + rise if t < PERIOD / 2 else 2 * AMPLITUDE - 1 - rise
    return CLASSES * g / g.sum()


def expected(arrays, weights, batch_size, dynamical):
    """Rows of the metrics table, by momentum SGD from gradients of torch's autograd."""
    import torch

    X, y = torch.from_numpy(arrays["X"]), torch.from_numpy(arrays["y"])
    X_val, y_val = torch.from_numpy(arrays["X_val"]), torch.from_numpy(arrays["y_val"])
    theta = {name: torch.from_numpy(weights[name].copy()) for name in NAMES}
    velocity = {name: torch.zeros_like(value) for name, value in theta.items()}
    per_epoch = -(-N // batch_size)
    total = EPOCHS * per_epoch

    def judge(X, y, weight):
        with torch.no_grad():
            logits = forward(theta, X)
            each = torch.logsumexp(logits, 1) - logits[torch.arange(len(y)), y]
            right = (logits.argmax(1) == y).double().mean()
            return each.mean().item(), (weight[y] * each).mean().item(), right.item()

    rows = []
    for epoch in range(EPOCHS + 1):
        step = epoch * per_epoch
        L, F, right = judge(X, y, torch.from_numpy(gamma(step, dynamical)))
        val_loss, _, val_right = judge(X_val, y_val, torch.ones(CLASSES, dtype=torch.float64))
        rate = 0.05 * np.interp(step / total, [0, 0.5, 1], [0.4, 1, 0.1])
        rows.append((epoch, step, L, F, right, val_loss, val_right, rate))
        if epoch == EPOCHS:
            return rows
        order = np.random.default_rng([7, epoch]).permutation(N)
        if batch_size == N:
            order = np.arange(N)
        for begin in range(0, N, batch_size):
            batch = torch.from_numpy(order[begin : begin + batch_size])
            free = {name: value.clone().requires_grad_() for name, value in theta.items()}
            logits, labels = forward(free, X[batch]), y[batch]
            each = torch.logsumexp(logits, 1) - logits[torch.arange(len(batch)), labels]
            loss = (torch.from_numpy(gamma(step, dynamical))[labels] * each).mean()
            gradients = torch.autograd.grad(loss, list(free.values()))
            rate = 0.05 * np.interp(step / total, [0, 0.5, 1], [0.4, 1, 0.1])
            for name, gradient in zip(free, gradients, strict=True):
                velocity[name] = MOMENTUM * velocity[name] + gradient
                theta[name] = theta[name] - rate * velocity[name]
            step += 1
    return rows


@pytest.mark.parametrize("batch_size", ["full", 20])
def test_myrtle5_through_the_command(tmp_path, batch_size):
    rng = np.random.default_rng(2)
    shapes, channels = {}, CHANNELS
    for layer in (1, 2, 3, 4):
        shapes[f"conv{layer}.weight"] = (WIDTH, channels, 3, 3)
        shapes[f"conv{layer}.bias"] = (WIDTH,)
        channels = WIDTH
    shapes |= {"dense.weight": (CLASSES, WIDTH), "dense.bias": (CLASSES,)}
    weights = {name: 0.4 * rng.normal(size=shape) for name, shape in shapes.items()}
    arrays = {
        "X": rng.normal(size=(N, CHANNELS, SIDE, SIDE)),
        "y": np.arange(N) % CLASSES,
        "X_val": rng.normal(size=(9, CHANNELS, SIDE, SIDE)),
        "y_val": np.arange(9) % CLASSES,
    }
    for part in ("", "_val"):  # something to learn: each class has a tint of its own
        arrays[f"X{part}"] += 0.5 * arrays[f"y{part}"][:, None, None, None]
    np.savez(tmp_path / "data.npz", **arrays)
    np.savez(tmp_path / "weights.npz", **weights)
    shown = f'"{batch_size}"' if batch_size == "full" else batch_size
    grid = write_grid(tmp_path, GRID.format(batch_size=shown))
    done = tilt("sweep", grid, "--device", "cpu", "--workers", "0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tiltcli.read("pictures", tmp_path / "results")
    columns = ["epoch", "step", "train_loss", "dynamical_loss", "train_accuracy"]
    columns += ["val_loss", "val_accuracy", "lr"]
    size = N if batch_size == "full" else batch_size
    losses = {}
    for job, kind in zip(run.jobs["job"], run.jobs["loss.kind"], strict=True):
        found = run.metrics.loc[run.metrics["job"] == job, columns].to_numpy(float)
        wanted = np.array(expected(arrays, weights, size, kind == "dynamical"))
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10)
        losses[kind] = wanted[:, 2]
        assert losses[kind][-1] < 0.99 * losses[kind][0]
    assert len(losses) == 2
    assert not np.allclose(losses["static"], losses["dynamical"], atol=1e-4)
