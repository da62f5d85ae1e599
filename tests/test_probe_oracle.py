"""[probe] of a grid file, from the command line, against a training and matrices made here."""

import numpy as np
import pytest
import torch

import tiltcli
from dense import dense
from helpers import save_case, tilt, write_grid
from tiltcli.networks.models import Perceptron

P, D, W, C = 48, 5, 6, 4
AMPLITUDE, PERIOD, REST, SETTLE, RATE = 12.0, 9, 1, 8, 0.3
EPOCHS, EVERY = 40, 3

GRID = """
[data]
kind = "file"
path = "data.npz"
[model]
width = {width}
init_file = "weights.npz"
[loss]
base = "{base}"
amplitude = {amplitude}
period = {period}
rest = {rest}
settle = {settle}
[train]
epochs = {epochs}
lr = {rate}
dtype = "{dtype}"
[probe]
every = {every}
ntk_points = {points}
"""


def gamma(step):
    """Γ by its definition: pulses of T + rest steps, and none from the last boundary on."""
    whole = PERIOD + REST
    settled = -(-(EPOCHS - SETTLE) // whole) * whole
    t, turn = step % whole, step // whole % C
    g = np.ones(C)
    if step < settled and t < PERIOD:
        rising = 1 + 2 * (AMPLITUDE - 1) * t / PERIOD
        g[turn] = rising if t < PERIOD / 2 else 2 * AMPLITUDE - rising
    return C * g / g.sum()


def case():
    rng = np.random.default_rng(11)
    X, y = rng.normal(size=(P, D)), np.arange(P) % C
    weights = {"W1": (D, W), "b1": (W,), "W2": (W, C), "b2": (C,)}
    return X, y, {name: rng.normal(size=shape) * 0.6 for name, shape in weights.items()}


def trained(base):
    """The network before every probed update, and the matrices of what is about to be descended."""
    X, y, weights = case()
    network = Perceptron(weights, torch.float64)
    for step in range(EPOCHS + 1):
        now = gamma(step)
        if step % EVERY == 0:
            theta, H, J = dense(network, base, X, y, now)
            flat = dense(network, base, X, y, np.ones(C))[1]
            yield step, theta, H, flat, J
        weights = torch.from_numpy(now)[torch.from_numpy(y)]
        logits = network(torch.from_numpy(X))
        one_hot = torch.nn.functional.one_hot(torch.from_numpy(y), C)
        each = -(torch.log_softmax(logits, 1) * one_hot).sum(1)
        if base == "mse":
            each = ((logits - one_hot) ** 2).sum(1)
        slopes = torch.autograd.grad((weights * each).mean(), list(network.parameters()))
        with torch.no_grad():
            for parameter, slope in zip(network.parameters(), slopes, strict=True):
                parameter -= RATE * slope


@pytest.mark.parametrize(
    ("engine", "base", "dtype", "within"),
    [
        ("fused", "cross_entropy", "float64", 1e-7),
        ("torch", "cross_entropy", "float64", 1e-7),
        ("torch", "mse", "float64", 1e-7),
        ("fused", "cross_entropy", "float32", 2e-4),
    ],
)
def test_every_probe_is_that_of_the_state_before_the_update(tmp_path, engine, base, dtype, within):
    X, y, weights = case()
    save_case(tmp_path, X, y, **weights)
    text = GRID.format(
        width=W, base=base, amplitude=AMPLITUDE, period=PERIOD, rest=REST, settle=SETTLE,
        epochs=EPOCHS, rate=RATE, dtype=dtype, every=EVERY, points=P // 2,
    )  # fmt: skip
    write_grid(tmp_path, text)
    done = tilt("sweep", "grid.toml", "--engine", engine, "--workers", 0, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    probes = tiltcli.read("grid", tmp_path / "results").probes.set_index("epoch")
    assert list(probes.index) == list(range(0, EPOCHS + 1, EVERY))
    assert (probes["step"] == probes.index).all()
    assert (probes["ntk_points"] == P // 2).all()
    for epoch, theta, H, flat, J in trained(base):
        values, some = np.linalg.eigvalsh(H), J[: P // 2]
        full = some.reshape(-1, theta.size)
        traced = sum(some[:, k] @ some[:, k].T for k in range(C)) / C
        wanted = {
            "hessian_max": values[-1],
            "hessian_second": values[-2],
            "hessian_third": values[-3],
            "hessian_min": values[0],
            "hessian_trace": np.trace(H),
            "hessian_max_static": np.linalg.eigvalsh(flat)[-1],
            "ntk_max": np.linalg.eigvalsh(traced)[-1],
            "ntk_max_full": np.linalg.eigvalsh(full @ full.T)[-1],
        }
        for name, value in wanted.items():
            found = probes.loc[epoch, name]
            assert found == pytest.approx(value, rel=within, abs=within * 1e-2 * values[-1]), name
