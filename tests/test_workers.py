"""Who trains: this very process, threads, other processes; and what is left when they stop."""

import multiprocessing
import os
import threading
from pathlib import Path

import pytest

import tiltcli
from helpers import GRID, same_tables, tilt, write_grid
from tiltcli.cli.live import Stop
from tiltcli.errors import UserError
from tiltcli.execution import train_job
from tiltcli.execution.reprobing import probe_run
from tiltcli.grid import ProbeSettings
from tiltcli.store.locks import RunLock

PROBED = GRID.replace("[4, 8]", "4") + "[probe]\nevery = 100\n"


@pytest.mark.parametrize("engine", ["fused", "torch"])
def test_no_workers_is_this_process_and_the_same_numbers(tmp_path, monkeypatch, engine):
    import torch

    grid = write_grid(tmp_path, PROBED)
    threads = torch.get_num_threads()
    seen = []
    load, start = train_job.load_engine, threading.Thread.start

    def timers_alone(thread):
        """No other thread than the one that writes what has waited for a second."""
        assert isinstance(thread, threading.Timer)
        start(thread)

    def watched(name):
        def train(job, data, context):
            seen.append((threading.current_thread(), job.id))
            yield from load(name)(job, data, context)

        return train

    with monkeypatch.context() as patch:
        patch.setattr(train_job, "load_engine", watched)
        patch.setattr(threading.Thread, "start", timers_alone)
        tiltcli.sweep(grid, results=tmp_path / "here", workers=0, engine=engine)
    assert [thread for thread, _ in seen] == [threading.current_thread()] * 9
    assert torch.get_num_threads() == threads
    assert not multiprocessing.active_children()
    tiltcli.sweep(grid, results=tmp_path / "there", workers=2, engine=engine)
    here, there = (tiltcli.read("grid", tmp_path / name) for name in ("here", "there"))
    assert set(here.jobs["engine"]) == {engine}
    same_tables(here, there)
    assert here.probes.equals(there.probes)


@pytest.mark.parametrize("workers", [-1, 10**9, 1.5, "2", True])
def test_other_numbers_of_workers_are_refused(tmp_path, workers):
    grid = write_grid(tmp_path)
    said = f"got {workers!r}; allowed: a whole number from 0 (in this process) to 4096"
    with pytest.raises(UserError) as caught:
        tiltcli.sweep(grid, results=tmp_path, workers=workers)
    assert said in str(caught.value)
    assert not (tmp_path / "grid").exists()
    tiltcli.sweep(grid, results=tmp_path, overrides=["train.seeds=1", "train.epochs=5"], workers=0)
    with pytest.raises(UserError) as caught:
        probe_run("grid", ProbeSettings(every=5), results=tmp_path, workers=workers)
    assert said in str(caught.value)


def test_fail_fast_waits_for_its_workers_and_keeps_their_checkpoints(tmp_path, monkeypatch):
    """The job of one seed kills its worker, always; that of the other never ends by itself."""
    monkeypatch.setenv("CRASH_SEED", "1")
    path = f"{Path('tests/crashing').resolve()}:{os.environ.get('PYTHONPATH', '')}"
    monkeypatch.setenv("PYTHONPATH", path)
    left = []
    release = RunLock.release

    def watched(lock):
        left.append(multiprocessing.active_children())
        release(lock)

    monkeypatch.setattr(RunLock, "release", watched)
    overrides = ["model.width=4", "loss.kind=static", "train.epochs=100000000", "train.seeds=2"]
    grid = write_grid(tmp_path)
    summary = tiltcli.sweep(
        grid,
        results=tmp_path,
        overrides=overrides,
        engine="torch",
        fail_fast=True,
        workers=2,
    )
    assert summary.ended == {"failed": 1}
    assert [note for note in summary.notes if "--fail-fast" in note]
    assert left and not any(left)
    assert len(list((tmp_path / "grid" / "checkpoints").glob("*.safetensors"))) == 1


def test_stopped_before_a_job_ended(tmp_path, monkeypatch):
    write_grid(tmp_path)
    monkeypatch.setattr(Stop, "listen", lambda stop: stop.event.set())
    ended = tilt("sweep", "grid.toml", cwd=tmp_path)
    assert ended.returncode == 130
    assert "results/grid: stopped before a job ended (0 of 18 jobs" in ended.stderr
    assert "interrupted: 0 of 18 jobs are done and kept" in ended.stderr
    assert "nothing to do" not in ended.stderr
