"""Small grids and ways to run the tool as a user does."""

import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import llvmlite.binding
import numpy as np
import pandas as pd
import pytest

from tiltcli.engines.mlp.kernel import FusedNetwork
from tiltcli.engines.mlp.layout import Points
from tiltcli.schedule import Schedule

GRID = """
[data]
kind = "spiral"
points_per_class = 20
[model]
width = [4, 8]
[loss]
kind = ["static", "dynamical"]
amplitude = [3, 10]
period = [20]
[train]
epochs = 200
seeds = 3
log_every = 50
"""


def write_grid(folder, text=GRID, name="grid"):
    path = Path(folder) / f"{name}.toml"
    path.write_text(text)
    return path


def command(*words):
    return [sys.executable, "-m", "tiltcli", *map(str, words)]


def tilt(*words, cwd, extra_env=None, **options):
    """Run the tool in a process of its own."""
    environment = {**os.environ, "PYTHONWARNINGS": "default", "COLUMNS": "100", "NO_COLOR": "1"}
    environment |= extra_env or {}
    return subprocess.run(
        command(*words),
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )


def same_tables(a, b):
    """Assert that two runs hold the same rows, wall time apart."""
    drop = ["seconds", "engine"]
    pd.testing.assert_frame_equal(a.jobs.drop(columns=drop), b.jobs.drop(columns=drop))
    pd.testing.assert_frame_equal(a.metrics, b.metrics)


def save_case(folder, X, y, W1, b1, W2, b2, **parts):
    """Write data.npz and weights.npz."""
    np.savez(Path(folder) / "data.npz", X=X, y=y, **parts)
    np.savez(Path(folder) / "weights.npz", W1=W1, b1=b1, W2=W2, b2=b2)


@lru_cache(maxsize=2)
def fig4_network():
    """Trained from the reference's weights; and the class weights of the Fig. 4 run."""
    with np.load("tests/data/run_a.npz") as case:
        theta = np.concatenate([case[name].ravel() for name in ("W1", "b1", "W2", "b2")])
        points = Points.prepare(case["X"], case["y"], 3, "float64")
    return theta, points, Schedule(3, 70.0, 5000, 1, 65_000)


@lru_cache(maxsize=2)
def fig4_losses(steps):
    """F of the Fig. 4 run at steps 0 … `steps`, by the fused kernel."""
    theta, points, schedule = fig4_network()
    network = FusedNetwork(theta, 100, points, None, 3)
    ones = np.ones(steps + 1)
    return network.run(schedule.gamma(np.arange(steps + 1)), ones, ones > 0, False).dynamical_loss


def same_on_narrower_machines(program, given):
    """Compare what a program computes here with the same compiled for narrower registers.

    The program is given two files: `given`, and the npz that it writes, in which `parts` says into
    how many registers a vector of 64 bytes went.
    """
    try:
        has = llvmlite.binding.get_host_cpu_features()
    except RuntimeError:
        has = {}
    if not has.get("fma"):
        pytest.skip("not a machine that narrower ones of its kind can be played on")
    found = []
    for number, features in enumerate((None, "+fma,+avx,+avx2", "+fma,+avx")):
        cpu = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": features} if features else {}
        out = Path(given).parent / f"{number}.npz"
        cache = {"NUMBA_CACHE_DIR": str(out.with_suffix(""))}
        words = [sys.executable, "-c", program, str(given), str(out)]
        subprocess.run(words, env={**os.environ, **cpu, **cache}, check=True)
        with np.load(out) as arrays:
            found.append(dict(arrays))
    assert [int(one.pop("parts")) for one in found][1:] == [2, 4]
    for name, value in found[0].items():
        assert np.abs(value).max() > 0
        for other in found[1:]:
            np.testing.assert_array_equal(other[name], value)
