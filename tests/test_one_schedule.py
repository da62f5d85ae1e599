"""One definition of the class weights: what uses them follows it, and no file has another."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

import tiltcli
from oracle import descend
from tiltcli.analysis.pulses import instabilities
from tiltcli.data import dataset_of
from tiltcli.engines import Block, Context, Snapshot, load_engine
from tiltcli.grid import parse_sweep
from tiltcli.networks.initial import initial_parameters
from tiltcli.plots.gamma import gamma_figure
from tiltcli.schedule import Schedule

C, EPOCHS, RATE = 3, 30, 0.4
JOB = f"""
[data]
kind = "spiral"
points_per_class = 12
[model]
width = 5
[loss]
amplitude = 9
period = 4
[train]
epochs = {EPOCHS}
lr = {RATE}
dtype = "float64"
log_every = 1
"""


def odd(self, steps):
    """Weights that no schedule has."""
    s = np.asarray(steps, dtype=np.float64)[..., None]
    raw = 1 + s % 5 * (C - np.arange(C)) ** 2
    return C * raw / raw.sum(axis=-1, keepdims=True)


@pytest.fixture
def _odd_weights(monkeypatch):
    monkeypatch.setattr(Schedule, "gamma", odd)


pytestmark = pytest.mark.usefixtures("_odd_weights")
STEPS = np.arange(EPOCHS + 1)
SCHEDULE = Schedule(C, 9.0, 4)


@pytest.mark.parametrize("engine", ["fused", "torch"])
def test_engines_follow(engine):
    job = parse_sweep(JOB, name="x", folder=Path()).jobs[0]
    data = dataset_of(job)
    items = list(load_engine(engine)(job, data, Context(device="cpu", snapshots=(3, 7))))
    found = np.concatenate([b.dynamical_loss for b in items if isinstance(b, Block)])
    parts = initial_parameters(job, data.sample_shape, C)
    theta = np.concatenate([part.ravel() for part in parts.values()])
    rows, _ = descend(theta, data.train.X, data.train.y, 5, odd(None, STEPS), RATE)
    np.testing.assert_allclose(found, rows[:, 1], rtol=1e-9)
    assert np.ptp(rows[:, 1] - rows[:, 0]) > 0.01  # they tell
    probed = {one.step: one.gamma for one in items if isinstance(one, Snapshot)}
    assert {step: gamma.tolist() for step, gamma in probed.items()} == {
        step: odd(None, step).tolist() for step in (3, 7)
    }


@pytest.mark.parametrize("name", ["DynamicalCrossEntropy", "DynamicalMSE"])
def test_drop_in_losses_follow(name):
    loss = getattr(tiltcli, name)(C, amplitude=9, period=4, reduction="none")
    logits, target = torch.randn(C, C, dtype=torch.float64), torch.arange(C)
    loss.steps += 2
    first = loss(logits, target)
    loss.step()
    ratio = odd(None, 3) / odd(None, 2)
    np.testing.assert_allclose((loss(logits, target) / first).numpy(), ratio)


def test_what_is_shown_follows():
    np.testing.assert_array_equal(
        tiltcli.gamma(STEPS, num_classes=C, amplitude=9, period=4), odd(None, STEPS)
    )
    lines = gamma_figure(SCHEDULE).axes[0].lines[:C]
    drawn = np.stack([line.get_ydata() for line in lines], axis=-1)
    np.testing.assert_array_equal(drawn, odd(None, lines[0].get_xdata()))
    F = 0.3 + 1e-3 * (-1.0) ** np.arange(4)
    longer = Schedule(C, 9.0, 400)
    (one,) = instabilities(np.tile(F, 100), longer, None)
    assert one.gamma == odd(None, one.onset)[one.label]


def computing(text):
    """Arithmetic with an amplitude, which is what weights are computed from."""

    def is_amplitude(node):
        if isinstance(node, ast.Call) and node.args:  # float(…), np.asarray(…)
            return is_amplitude(node.args[0])
        name = (
            getattr(node, "id", None)
            or getattr(node, "attr", None)
            or getattr(getattr(node, "slice", None), "value", None)
        )
        return name in aliases or str(name).rpartition(".")[2] == "amplitude"

    tree, aliases = ast.parse(text), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign) and is_amplitude(node.value):
            targets = getattr(node, "targets", None) or [node.target]
            aliases |= {target.id for target in targets if isinstance(target, ast.Name)}
    for node in ast.walk(tree):
        operands = ()
        if isinstance(node, ast.BinOp):
            operands = (node.left, node.right)
        elif isinstance(node, ast.UnaryOp | ast.AugAssign):
            operands = (getattr(node, "operand", None) or node.value,)
        if any(map(is_amplitude, operands)):
            yield ast.unparse(node)


def test_no_other_file_computes_weights():
    files = sorted(Path("src/tiltcli").rglob("*.py"))
    found = {str(path): list(computing(path.read_text(encoding="utf-8"))) for path in files}
    assert len(found.pop("src/tiltcli/schedule.py")) > 0
    assert not {path: some for path, some in found.items() if some}


@pytest.mark.parametrize(
    "planted",
    [
        "up = 1 + 2 * (self.amplitude - 1) * t / self.period",
        "A = float(job['loss.amplitude'])\ng = 2 * A - 1 - 2 * (A - 1) * t / T",
        "raw = np.full(len(t), 1.0)\nraw *= row['loss.amplitude']",
        "def weight(amplitude, classes):\n    return classes * amplitude / (classes - 1)",
        "rise = np.asarray(schedule.amplitude) - 1",
    ],
)
def test_another_definition_would_be_found(planted):
    assert list(computing(planted))
