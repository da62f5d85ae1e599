"""The same numbers from kernels compiled for vector registers of 64, 32 and 16 bytes.

All kernels in one process for each machine: many cases are compiled to the same code, which a
process loads once it is made.
"""

import os
import subprocess
import sys

import llvmlite.binding
import numpy as np
import pytest

from test_myrtle5 import myrtle_job
from tiltcli.networks.initial import initial_parameters

PROGRAM = """
import sys
import numpy as np
import torch
from tiltcli.engines.conv.myrtle5 import BlockedMyrtle5
from tiltcli.engines.lanes import REGISTERS
from tiltcli.engines.mlp.kernel import Batches, FusedNetwork
from tiltcli.engines.mlp.layout import Points
from tiltcli.engines.mlp.optimisers import Optimiser
from tiltcli.networks.models import Myrtle5

given = dict(np.load(sys.argv[1]))
theta, pictures = given.pop("theta"), given.pop("pictures")
points, labels = given.pop("points"), given.pop("labels")
found = {"parts": REGISTERS.parts}

cases = (
    (2, 37, 3, 1, "float32", "cross_entropy", Optimiser(), None, 0.05, 1),
    (9, 19, 8, 1, "float64", "cross_entropy", Optimiser(), None, 0.05, 1),
    (2, 37, 3, 1, "float32", "mse", Optimiser("sgd", 0.9, True, 0.01), 30, 0.01, 5),
    (2, 37, 3, 1, "float64", "cross_entropy", Optimiser("adam", weight_decay=0.1), None, 0.01, 5),
    (9, 19, 8, 3, "float64", "mse", Optimiser("adamw", weight_decay=0.1), 30, 0.01, 5),
)
for case in cases:
    inputs, width, classes, depth, dtype, base, optimiser, size, rate, every = case
    X, y = points[:, :inputs], labels % classes
    units = [inputs, *[width] * depth, classes]
    count = sum((one + 1) * other for one, other in zip(units, units[1:]))
    laid_out = Points.prepare(X, y, classes, dtype, depth=depth)
    batches = None if size is None else Batches(size, 3)
    network = FusedNetwork(theta[:count], width, laid_out, laid_out, classes, depth=depth,
                           base=base, optimiser=optimiser, batches=batches)
    gammas = 1 + np.arange(60.0)[:, None] % np.arange(2, classes + 2)
    steps = network.run(gammas, np.full(60, rate), np.arange(60) % every == 0)
    found |= {f"theta: {case}": network.theta, f"loss: {case}": steps.dynamical_loss}

network = Myrtle5(given, torch.float32)
logits = BlockedMyrtle5(network, pictures.shape[1:])(torch.from_numpy(pictures))
logits.square().sum().backward()
found |= {name: p.grad.numpy() for name, p in network.named_parameters()}
np.savez(sys.argv[2], logits=logits.detach().numpy(), **found)
"""


def test_any_registers_give_the_same_numbers(tmp_path):
    """`parts` says into how many registers a vector of 64 bytes goes."""
    try:
        has = llvmlite.binding.get_host_cpu_features()
    except RuntimeError:
        has = {}
    if not has.get("fma"):
        pytest.skip("not a machine that narrower ones of its kind can be played on")
    rng = np.random.default_rng(0)
    given = {
        "points": rng.normal(size=(150, 9)),
        "labels": rng.integers(0, 840, 150),
        "theta": 0.3 * rng.normal(size=1200),
        "pictures": rng.normal(size=(21, 2, 9, 13)).astype(np.float32),
    }
    parameters = initial_parameters(myrtle_job(7), (2, 9, 13), 10)
    np.savez(tmp_path / "given.npz", **given, **parameters)
    found = []
    for number, features in enumerate((None, "+fma,+avx,+avx2", "+fma,+avx")):
        cpu = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": features} if features else {}
        out = tmp_path / f"{number}.npz"
        words = [sys.executable, "-c", PROGRAM, str(tmp_path / "given.npz"), str(out)]
        subprocess.run(words, env={**os.environ, **cpu}, check=True)
        with np.load(out) as arrays:
            found.append(dict(arrays))
    assert [int(one.pop("parts")) for one in found][1:] == [2, 4]
    assert len(found[0]) == 2 * 5 + 1 + len(parameters)
    for name, value in found[0].items():
        assert np.abs(value).max() > 0
        for other in found[1:]:
            np.testing.assert_array_equal(other[name], value)
