"""Small grids and ways to run the tool as a user does."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import traceback
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd

from tiltcli.cli import main
from tiltcli.engines.mlp.kernel import FusedNetwork
from tiltcli.engines.mlp.layout import Points
from tiltcli.errors import QUANTITY_COLUMNS
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

UNASKED = [
    column.name
    for quantity in QUANTITY_COLUMNS.keys() - {"hessian", "ntk"}
    for column in QUANTITY_COLUMNS[quantity]
]
"""Columns of the probes that are null where nothing is said of quantities."""

ENVIRONMENT = {"COLUMNS": "100", "NO_COLOR": "1"}


def write_grid(folder, text=GRID, name="grid"):
    path = Path(folder) / f"{name}.toml"
    path.write_text(text)
    return path


def command(*words):
    return [sys.executable, "-m", "tiltcli", *map(str, words)]


@dataclass(frozen=True)
class Ended:
    """What a run of the tool left: exit code, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def tilt(*words, cwd, extra_env=None, text=""):
    """Run the tool's entry point in this process, with streams of its own.

    A process's start costs more than most commands. Where the process itself is looked at (signals,
    what is loaded, its environment), there is `tilt_process`. Here warnings are errors, as in all
    tests, and an error that nobody catches is a traceback and exit code 1, as there.
    """
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with (
        mock.patch.dict(os.environ, {**ENVIRONMENT, **(extra_env or {})}),
        mock.patch.object(sys, "argv", ["tiltcli", *map(str, words)]),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8")),
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code or 0
        except Exception:
            traceback.print_exc()
            code = 1
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return Ended(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))


def tilt_process(*words, cwd, extra_env=None):
    """Run the tool in a process of its own."""
    done = subprocess.run(
        command(*words),
        cwd=cwd,
        env={**os.environ, "PYTHONWARNINGS": "default", **ENVIRONMENT, **(extra_env or {})},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def unlucky(**variables):
    """Environment of a process whose trainings go as tests/crashing says."""
    path = os.pathsep.join(
        filter(None, [str(Path("tests/crashing").resolve()), os.environ.get("PYTHONPATH")])
    )
    return {**{name: str(value) for name, value in variables.items()}, "PYTHONPATH": path}


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
