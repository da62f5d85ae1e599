"""Long jobs: interrupted and resumed is bit for bit the same as never interrupted."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tiltcli
from helpers import same_tables, tilt, unlucky, write_grid
from tiltcli.data import dataset_of
from tiltcli.engines import Context, Ending, Interrupted
from tiltcli.engines.torch import loop as torch_loop
from tiltcli.errors import METRIC_COLUMNS, UserError
from tiltcli.execution.train_job import Task, train_job
from tiltcli.grid import parse_sweep

PICTURES = """
[data]
kind = "digits"
[model]
kind = "myrtle5"
width = 3
[loss]
amplitude = 4
period = 7
settle = 5
[train]
epochs = 3
batch_size = 200
lr = 0.02
log_every = 1
"""
ROWS = PICTURES.replace('"myrtle5"', '"mlp"').replace("200", '"full"').replace("= 3", "= 40")
VALUES = [column.name for column in METRIC_COLUMNS if column.name != "job"]


def job_of(text, *overrides):
    return parse_sweep(text, name="x", folder=Path(), overrides=overrides).jobs[0]


def train(job, context):
    """Rows and ending; None where it was interrupted."""
    blocks = []
    try:
        for item in torch_loop.train(job, dataset_of(job), context):
            blocks.append(item)
    except Interrupted:
        return None
    ending = blocks.pop()
    assert isinstance(ending, Ending)
    rows = [np.concatenate([getattr(block, name) for block in blocks]) for name in VALUES]
    if ending.outcome == "completed":
        assert sum(block.updates for block in blocks) == rows[1][-1]
    return rows, (ending.outcome, ending.epoch, ending.test_loss, ending.test_accuracy)


def same(one, other):
    for a, b in zip(one[0], other[0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert one[1] == other[1]


@pytest.mark.parametrize(
    ("text", "overrides", "pieces"),
    [
        (PICTURES, ["train.momentum=0.9", "train.nesterov=true", "train.weight_decay=0.001"], 6),
        (PICTURES, ["train.optimizer=adam", "train.lr=0.003", "train.log_every=2"], 6),
        (PICTURES, ["train.optimizer=adamw", "train.lr=0.003", 'train.dtype="float64"'], 6),
        (PICTURES, ["train.batch_size=50", "train.lr=1e4"], 1),
        (ROWS, ["loss.base=mse", "train.momentum=0.5"], 6),
    ],
)
def test_resumed_is_uninterrupted(tmp_path, text, overrides, pieces):
    job = job_of(text, *overrides)
    whole = train(job, Context(device="cpu"))
    assert whole[1][0] == ("diverged" if "train.lr=1e4" in overrides else "completed")
    path = tmp_path / "a" / "checkpoint.safetensors"
    attempts, done = 0, None
    while done is None:
        # Every attempt goes a few pieces of work further than the last, and is cut off there.
        asked, allowed = [0], pieces + 2 * attempts

        def stop(asked=asked, allowed=allowed):
            asked[0] += 1
            return asked[0] > allowed

        done = train(job, Context(stop, device="cpu", checkpoint=path))
        attempts += 1
        assert path.exists()
    assert attempts > 2
    same(done, whole)
    assert [p.name for p in path.parent.glob("*")] == [path.name]


def test_saves_at_intervals_and_goes_on_from_the_last(tmp_path, monkeypatch):
    job = job_of(PICTURES)
    path = tmp_path / "c.safetensors"
    asked = [0]

    def killed():
        asked[0] += 1
        if asked[0] > 18:
            raise KeyboardInterrupt  # as good as a kill: nothing is saved any more
        return False

    with pytest.raises(KeyboardInterrupt):
        train(job, Context(killed, device="cpu", checkpoint=path, checkpoint_seconds=0.0))
    calls = [0]

    def counted():
        calls[0] += 1
        return False

    resumed = train(job, Context(counted, device="cpu", checkpoint=path))
    first = [0]

    def counted_whole():
        first[0] += 1
        return False

    same(resumed, train(job, Context(counted_whole, device="cpu")))
    assert calls[0] < first[0] - 12  # it went on from about the 15th


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "text", "other"])
def test_a_damaged_or_foreign_checkpoint_is_set_aside(tmp_path, harm):
    job, path = job_of(PICTURES), tmp_path / "c.safetensors"
    asked = [0]

    def stop():
        asked[0] += 1
        return asked[0] > 8

    source = job_of(PICTURES, "train.seed=1") if harm == "other" else job
    assert train(source, Context(stop, device="cpu", checkpoint=path)) is None
    content = path.read_bytes()
    if harm == "cut":
        path.write_bytes(content[:-100])
    elif harm == "flip":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif harm in ("empty", "text"):
        path.write_bytes(b"" if harm == "empty" else b"not a checkpoint " * 9)
    same(train(job, Context(device="cpu", checkpoint=path)), train(job, Context(device="cpu")))
    assert (tmp_path / "c.damaged").exists()
    assert not path.exists()


def test_a_save_that_fails_is_told_and_costs_no_job(tmp_path, monkeypatch):
    """A file stands where the folder of the checkpoints should be."""
    from tiltcli.engines.torch import checkpoint

    job = job_of(PICTURES)
    (tmp_path / "in_the_way").write_text("")
    path = tmp_path / "in_the_way" / "c.safetensors"
    items = list(
        torch_loop.train(
            job,
            dataset_of(job),
            Context(device="cpu", checkpoint=path, checkpoint_seconds=0.0),
        )
    )
    assert items[-1].outcome == "completed"
    assert items[-1].unsaved in ("File exists", "Not a directory")
    run = tmp_path / "results" / "x"
    monkeypatch.setattr(checkpoint.os, "replace", _full)
    task = Task(job, "torch", tmp_path, device="cpu", checkpoint=run / "c", checkpoint_seconds=0.0)
    finished = train_job(task)
    assert finished.row["outcome"] == "completed"
    assert finished.unsaved == "No space left on device"
    assert list(run.iterdir()) == []


def _full(*_):
    raise OSError(28, "No space left on device")


def children(pid):
    words = ["ps", "-ww", "-o", "pid=", "-o", "args=", "--ppid", str(pid)]
    found = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    return [int(line.split()[0]) for line in found.splitlines() if "spawn_main" in line]


LONG = PICTURES.replace("epochs = 3", "epochs = 4\nseeds = 2") + "momentum = 0.9\n"


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    done = tilt("sweep", write_grid(folder, LONG), "--workers", "0", cwd=folder)
    assert done.returncode == 0, done.stderr
    run = folder / "results" / "grid"
    assert not (run / "checkpoints").exists()
    return tiltcli.read(run)


SCRIPT = """
import functools, sys
from tiltcli.execution import checks
checks.RunOptions = functools.partial(checks.RunOptions, checkpoint_seconds=0.0)
from tiltcli.cli import main
main()
"""


@contextlib.contextmanager
def often_saving(folder, **options):
    """A sweep whose two jobs have begun, saved themselves, and go on once `folder`/go is there."""
    saved = folder / "results" / "grid" / "checkpoints"
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "sweep", str(write_grid(folder, LONG)), "--workers", "2"],
        cwd=folder,
        env={**os.environ, **unlucky(HOLD=folder / "go", HOLD_AT=10)},
        stderr=subprocess.PIPE,
        text=True,
        **options,
    ) as process:
        wait_for(lambda: len(list(saved.glob("*.safetensors"))) == 2, process)
        yield process, saved


def test_sigterm_saves_and_the_same_command_resumes(tmp_path, uninterrupted):
    with often_saving(tmp_path) as (process, saved):
        sent = time.time()
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "interrupted: 0 of 2 jobs are done and kept; the same command resumes" in said
    files = list(saved.glob("*.safetensors"))
    assert len(files) == 2
    assert all(path.stat().st_mtime > sent - 0.1 for path in files)
    done = tilt("sweep", tmp_path / "grid.toml", "--workers", "0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not saved.exists()
    same_tables(tiltcli.read(saved.parent), uninterrupted)


@pytest.mark.parametrize("whole_run", [False, True])
def test_the_killed_go_on_from_their_checkpoints(tmp_path, uninterrupted, whole_run):
    with often_saving(tmp_path, start_new_session=True) as (process, saved):
        if whole_run:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            assert len(list(saved.glob("*.safetensors"))) == 2
        else:
            os.kill(children(process.pid)[0], signal.SIGKILL)
            (tmp_path / "go").touch()
            said = process.communicate()[1]
            assert process.returncode == 0, said
    if whole_run:
        again = tilt("sweep", tmp_path / "grid.toml", "--workers", "0", cwd=tmp_path)
        assert again.returncode == 0, again.stderr
    same_tables(tiltcli.read(saved.parent), uninterrupted)
    assert not list(saved.glob("*.safetensors"))


def test_devices(tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    grid = write_grid(tmp_path, PICTURES)
    wrong = tilt("sweep", grid, "--device", "cdua", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "--device: got cdua; allowed: auto, cpu, cuda; did you mean cuda?" in wrong.stderr
    with pytest.raises(UserError, match="finds no CUDA device here; allowed: auto, cpu"):
        tiltcli.sweep(grid, results=tmp_path / "results", device="cuda")
    assert not (tmp_path / "results").exists()
