"""What all tests share."""

import functools
import gc
import os
import sys
from pathlib import Path

import pytest
import typer.main

# Before NumPy or torch is loaded, and for every process that a test starts: several of them share
# the cores, and threads that wait for each other would take many times as long.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

sys.path.insert(0, str(Path(__file__).parent))

from shapes import check_shapes  # noqa: E402  (its folder has only now a place in the path)

check_shapes()

# The libraries' half a million objects stay; to look through them for garbage was a third of the
# collection of the tests.
gc.set_threshold(50_000, 20, 20)

# What the signatures of the commands say is read once, not at every command that a test runs within
# its process: it would be a fifth of many tests.
typer.main.get_params_from_function = functools.cache(typer.main.get_params_from_function)

# Programs, not modules with examples in their docstrings.
collect_ignore = ["bench", "crashing", "examples"]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """One more than there are cores for this process (not in the machine): some tests only wait."""
    from tiltcli.engines.machine import cores

    return min(cores() + 1, 8)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Tests that share what a fixture has made run on one worker, so that it is made once."""
    for item in items:
        shared = item._fixtureinfo.name2fixturedefs.values()
        if any(one[-1].scope == "module" for one in shared):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(autouse=True)
def _from_the_root(request, monkeypatch):
    """Tests name their data relative to the project's root."""
    monkeypatch.chdir(request.config.rootpath)


@pytest.fixture
def light_workers(tmp_path_factory, monkeypatch):
    """Workers get a torch of one function: its import takes seconds, and tasks need none."""
    folder = tmp_path_factory.mktemp("light")
    (folder / "torch.py").write_text("def set_num_threads(number): pass\n")
    monkeypatch.syspath_prepend(folder)
