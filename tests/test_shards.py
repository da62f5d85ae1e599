"""Several writers to one run, in real processes: in any order, killed, run twice, overlapping."""

import errno
import json
import os
import signal
import subprocess
import time

import pyarrow.parquet as pq
import pytest

import tiltcli
from helpers import GRID, command, same_tables, tilt, write_grid
from tiltcli.errors import UserError
from tiltcli.execution.train_job import Task, train_job
from tiltcli.grid import load_sweep
from tiltcli.grid.shards import Shard
from tiltcli.store import RunWriter, locks, parts

LONGER = (
    GRID.replace("seeds = 3", "seeds = 40")
    .replace("epochs = 200", "epochs = 10000")
    .replace("log_every = 50", "log_every = 500")
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The longer grid, done in one go by one client."""
    folder = tmp_path_factory.mktemp("whole")
    tiltcli.sweep(write_grid(folder, LONGER), results=folder)
    return tiltcli.read("grid", folder)


def start(*words, cwd):
    return subprocess.Popen(
        command("sweep", "grid.toml", *words), cwd=cwd, stderr=subprocess.PIPE, text=True
    )


def rows(folder, table):
    """Rows as anybody's tools see them."""
    return pq.read_table(folder / table).to_pylist()


def test_shards_at_once_some_killed_some_twice(tmp_path, whole):
    write_grid(tmp_path, LONGER)
    folder = tmp_path / "results" / "grid"
    first = [start("--shard", f"{i}/4", "--workers", "1", cwd=tmp_path) for i in (3, 1, 4, 2)]
    deadline = time.monotonic() + 60
    while len(parts.live(folder)) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for process in first[:2]:
        process.send_signal(signal.SIGKILL)
    messages = [process.communicate(timeout=120)[1] for process in first]
    assert [process.returncode for process in first[2:]] == [0, 0], messages
    kept = set(tiltcli.read(folder).jobs["job"])
    shown = tilt("runs", "grid", "--format", "json", cwd=tmp_path)
    facts = json.loads(shown.stdout)
    assert facts["missing"] == 240 - len(kept) == sum(facts["missing_by_shard"].values())
    assert set(facts["missing_by_shard"]) <= {"1/4", "3/4"}
    assert all(job["job"] not in kept for job in facts["missing_jobs"])
    # Once more: those that were killed, and one that was done.
    again = [start("--shard", f"{i}/4", "--workers", "1", cwd=tmp_path) for i in (1, 2, 3)]
    messages = [process.communicate(timeout=120)[1] for process in again]
    assert [process.returncode for process in again] == [0, 0, 0], messages
    assert "nothing to do; 60 were done before" in messages[1]
    same_tables(tiltcli.read(folder), whole)
    assert kept <= set(tiltcli.read(folder).jobs["job"])
    # A part for each shard, however often it was started; the last brought the origins together.
    assert sorted(path.name for path in folder.glob("jobs/*")) == [
        f"s{i}of4.000000.parquet" for i in range(1, 5)
    ]
    assert not [path for path in folder.rglob("*") if path.name.endswith(".tmp")]
    noted = json.loads((folder / "provenance.json").read_text())["invocations"]
    assert sorted(one["shard"] for one in noted) == sorted(
        ["1/4", "2/4", "3/4", "4/4", "1/4", "2/4", "3/4"]
    )
    assert not list(folder.glob("provenance-*.json"))


def test_shards_of_different_divisions_overlap_without_harm(tmp_path, whole):
    write_grid(tmp_path, LONGER)
    folder = tmp_path / "results" / "grid"
    both = [start("--shard", i, "--workers", "1", cwd=tmp_path) for i in ("1/2", "2/3")]
    messages = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], messages
    tables = tiltcli.read(folder)
    assert not tables.jobs["job"].duplicated().any()
    assert not tables.metrics.duplicated(["job", "epoch"]).any()
    assert len(tables.jobs) == 120 + 80 - 40
    assert len(rows(folder, "jobs")) == len(tables.jobs)
    # A client alone does what is left.
    last = tilt("sweep", "grid.toml", cwd=tmp_path)
    assert last.returncode == 0, last.stderr
    same_tables(tiltcli.read(folder), whole)
    assert len(rows(folder, "jobs")) == 240
    assert len(rows(folder, "metrics")) == len(whole.metrics)
    assert len(list(folder.rglob("*.parquet"))) == 6


def test_who_may_write_at_the_same_time(tmp_path):
    sweep = load_sweep(write_grid(tmp_path))
    folder = tmp_path / "results" / "grid"
    with RunWriter(folder, sweep, [], shard=Shard(1, 4)):
        with RunWriter(folder, sweep, [], shard=Shard(2, 4)):
            pass
        same = tilt("sweep", "grid.toml", "--shard", "1/4", cwd=tmp_path)
        assert (same.returncode, "shard 1/4 of it" in same.stderr) == (2, True)
        alone = tilt("sweep", "grid.toml", cwd=tmp_path)
        assert (alone.returncode, "is writing shard 1/4" in alone.stderr) == (2, True)
    with RunWriter(folder, sweep, []):
        shard = tilt("sweep", "grid.toml", "--shard", "1/4", cwd=tmp_path)
        assert (shard.returncode, "is writing all of it" in shard.stderr) == (2, True)
        assert "Traceback" not in shard.stderr
    other = tilt("sweep", "grid.toml", "--shard", "1/4", "--set", "train.lr=2", cwd=tmp_path)
    assert other.returncode == 2
    assert "train.lr" in other.stderr
    fresh = tilt("sweep", "grid.toml", "--shard", "1/4", "--fresh", cwd=tmp_path)
    assert fresh.returncode == 2
    assert "other shards" in fresh.stderr


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "-1/4", "a/b", "1/4/2", "1/999999999"])
def test_what_is_no_shard(tmp_path, text):
    with pytest.raises(UserError, match="--shard"):
        tiltcli.sweep(write_grid(tmp_path), results=tmp_path, shard=text)
    assert not (tmp_path / "grid").exists()


def test_without_locks_nothing_is_lost(tmp_path, monkeypatch):
    """A file system without locks: said, and two clients at once still make a right run."""
    import fcntl

    grid = write_grid(tmp_path)
    sweep = load_sweep(grid)
    tiltcli.sweep(grid, results=tmp_path / "whole")

    def absent(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", absent)
    folder = tmp_path / "results" / "grid"
    with RunWriter(folder, sweep, []) as one, RunWriter(folder, sweep, []) as two:
        assert "no locks" in " ".join(one.notes)
        for writer, jobs in ((one, sweep.jobs), (two, sweep.jobs[5:])):
            for job in jobs:
                writer.add(train_job(Task(job, "fused", folder / "metrics", writer.name)))
            writer.commit()
    monkeypatch.undo()
    same_tables(tiltcli.read(folder), tiltcli.read("grid", tmp_path / "whole"))
    assert not locks.RunLock(folder)._own.is_locked
