"""A run's files as anybody's tools see them: each committed job once, at every moment.

The readers list `jobs/*.parquet` and read what the list names. They know nothing of tiltcli.
"""

import contextlib
import itertools
import os
import shutil
import threading
import time
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tiltcli
from helpers import write_grid
from tiltcli.engines.base import Block
from tiltcli.grid import load_sweep
from tiltcli.grid.shards import Shard
from tiltcli.store import (
    Finished,
    MetricsSpool,
    RunWriter,
    parquet,
    part_files,
    parts,
    provenance,
    spool,
    write,
)


class Killed(BaseException):
    pass


def finished(job, rows=3, outcome="completed", folder=None, probed=()):
    """A job that ended, its metrics and recalls in memory or in files in a folder."""
    numbers = np.arange(rows)
    recall = None if job in UNASKED else np.full((rows, 2, 1), 0.5)
    block = Block(numbers, numbers, *[numbers * 0.5] * 8, 1, recall)
    one = MetricsSpool(job, folder or Path())
    if rows:
        one.add(block, ["0"])
    probes = [{"job": job, "epoch": epoch, "hessian_max": 1.0} for epoch in probed]
    metrics = one.finish()
    return Finished({"job": job, "outcome": outcome}, metrics, rows, probes, recalls=one.recalls)


def globbed(run, table="jobs", column="job"):
    found = duckdb.sql(f"select {column} from '{run / table}/*.parquet'").fetchall()
    return [row[0] if len(row) == 1 else row for row in found]


LONG = {4, 5}
UNASKED = {"job1", "job4"}
"""Jobs that were not asked for recalls."""
ROWS = {f"job{n}": 50 if n in LONG else 3 for n in range(7)}
"""Rows of metrics in the end; those of a long job come in a file."""


def check_globbed(run, committed):
    """Every committed job is there, with all its metrics; no row of any table is there twice."""
    jobs = globbed(run) if parts.live(run) else []
    assert len(jobs) == len(set(jobs))
    assert committed.keys() <= set(jobs)
    for table, part in (("metrics", "0"), ("probes", "0"), ("recall", "part")):
        if not list((run / table).glob("*.parquet")):
            continue
        names = ["job", "epoch", "part"]
        found = pd.DataFrame(globbed(run, table, f"job, epoch, {part}"), columns=names)
        found = found[found["job"].isin(jobs)]
        assert not found.duplicated().any()
        sizes = found.groupby("job").size()
        if table == "metrics":
            assert all(sizes.get(job, 0) == rows for job, rows in committed.items() if rows)
        elif table == "recall":
            asked = {job: 2 * rows for job, rows in committed.items() if job not in UNASKED}
            assert all(sizes.get(job, 0) == rows for job, rows in asked.items() if rows)


def life_of_a_run(run, sweep):
    """Commits of all kinds; yields what has to be there from then on: job → rows of metrics."""
    done = {}
    with RunWriter(run, sweep, []) as writer:
        for number in range(7):
            job, failed = f"job{number}", number in (2, 5)
            rows, outcome = (0, "failed") if failed else (ROWS[job], "completed")
            writer.add(finished(job, rows, outcome, run / "metrics", range(number % 3)))
            writer.commit()
            done[job] = rows
            yield dict(done)
        for job in ("job2", "job5"):  # the failed ones again
            writer.add(finished(job, ROWS[job], "completed", run / "metrics", [7]))
            writer.commit()
            done[job] = ROWS[job]
            yield dict(done)
        writer.add_probes([{"job": "job1", "epoch": 0, "ntk_max": 1.0}])
        writer.add_probes([{"job": "job3", "epoch": 5, "ntk_max": 1.0}])
        writer.commit()
    yield dict(done)


@pytest.fixture
def small(monkeypatch):
    """Parts of few jobs, row groups brought together often, metrics in files early."""
    monkeypatch.setattr(part_files, "PART_JOBS", 4)
    monkeypatch.setattr(parquet, "SMALL_BYTES", 0)
    monkeypatch.setattr(spool, "SPILL_ROWS", 40)


def test_killed_at_every_step(tmp_path, monkeypatch, small):
    """Whatever it dies at: readers see each committed job once, and so they do ever after."""
    sweep = load_sweep(write_grid(tmp_path))
    monkeypatch.setattr(provenance, "machine", dict)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    run, states, committed = tmp_path / "grid", [], {}

    def wrap(original):
        def call(*arguments, **options):
            states.append((tmp_path / f"{len(states)}" / "grid", committed))
            shutil.copytree(run, states[-1][0])
            return original(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", wrap(os.replace))
        patch.setattr(Path, "unlink", wrap(Path.unlink))
        for committed in life_of_a_run(run, sweep):  # noqa: B007
            pass
    assert len(states) > 30
    for run, committed in states:  # as it is left by a kill at that call
        check_globbed(run, committed)
        if (run / "sweep.toml").exists():
            found = tiltcli.read(run)
            assert committed.keys() <= set(found.jobs["job"])
            assert not found.metrics.duplicated(["job", "epoch"]).any()
        with RunWriter(run, sweep, []) as writer:
            check_globbed(run, committed)
            for job, rows in ROWS.items():
                if writer.outcomes().get(job) != "completed":
                    writer.add(finished(job, rows, folder=run / "metrics"))
        check_globbed(run, ROWS)
        assert sorted(globbed(run)) == sorted(ROWS)
        assert len(globbed(run, "metrics")) == sum(ROWS.values())
        asked = sum(2 * rows for job, rows in ROWS.items() if job not in UNASKED)
        assert len(globbed(run, "recall")) == len(tiltcli.read(run).recall) == asked
        assert not list(run.rglob(".*.tmp"))
        shutil.rmtree(run.parent)


@pytest.mark.parametrize("shrinking", [False, True])
def test_readers_beside_shards(tmp_path, monkeypatch, small, shrinking):
    """DuckDB, Polars and pandas in loops beside shards of two divisions, which share jobs."""
    if not shrinking:
        monkeypatch.undo()
    monkeypatch.setattr(write, "COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(write, "WRITING_SHARE", 1.0)
    monkeypatch.setattr(part_files, "PART_JOBS", 20)
    sweep = load_sweep(write_grid(tmp_path))
    run = tmp_path / "results" / "grid"
    names = [f"job{n:04d}" for n in range(100)]
    committed: set[str] = set()
    stop, faults = threading.Event(), []
    with RunWriter(run, sweep, []) as writer:
        writer.add(finished("first"))
    committed.add("first")

    def share_of(shard):
        with RunWriter(run, sweep, [], shard=shard) as writer:
            mine = iter(shard.of(names))
            while (some := list(itertools.islice(mine, 3))) and not stop.is_set():
                for name in some:
                    failed = "failed" if name.endswith("7") else "completed"
                    writer.add(finished(name, 3, failed))
                writer.commit()
                committed.update(some)
                for name in some:
                    writer.add(finished(name, 3))  # what failed succeeds; the rest is there
                writer.commit()

    def look(read):
        looks = 0
        while not stop.is_set():
            before = set(committed)
            found = read()
            looks += 1
            if len(found) != len(set(found)) or not before <= set(found):
                faults.append((read, len(found) - len(set(found)), len(before - set(found))))
                return
        if looks < 5:
            faults.append((read, "hardly read", looks))

    def asked():
        """As `globbed`; DuckDB says so where a file got shorter than it was, and is asked again."""
        while True:
            try:
                return globbed(run)
            except duckdb.Error as error:
                if not shrinking or "outside file" not in str(error):
                    raise

    readers = [
        asked,
        lambda: polars.read_parquet(run / "jobs" / "*.parquet")["job"].to_list(),
        lambda: pd.read_parquet(run / "jobs", columns=["job"])["job"].to_list(),
        lambda: tiltcli.read(run).jobs["job"].to_list(),
    ]
    if shrinking:
        del readers[1]  # it asks for a file's size by its name, and minds if that gets less
    shards = [Shard(1, 2), Shard(2, 2), Shard(2, 3)]
    with contextlib.ExitStack() as stack:
        stack.callback(stop.set)
        looking = [threading.Thread(target=look, args=(one,)) for one in readers]
        writing = [threading.Thread(target=share_of, args=(shard,)) for shard in shards]
        for thread in (*looking, *writing):
            thread.start()
        for thread in writing:
            thread.join()
        stop.set()
        for thread in looking:
            thread.join()
    assert not faults
    assert sorted(globbed(run)) == sorted([*names, "first"])
    assert set(globbed(run, "jobs", "outcome")) == {"completed"}
    metrics = pd.DataFrame(globbed(run, "metrics", "job, epoch"))
    assert len(metrics) == 3 * 101
    assert not metrics.duplicated().any()


def test_a_late_job_is_written_though_none_follows(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "COMMIT_SECONDS", 0.2)
    run = tmp_path / "grid"
    with RunWriter(run, load_sweep(write_grid(tmp_path)), []) as writer:
        writer.add(finished("a"))
        writer.add(finished("b"))
        deadline = time.monotonic() + 20
        while not parts.live(run) or len(globbed(run)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_an_old_look_at_a_file_still_finds_its_rows(tmp_path):
    """Bytes stay where they are, whatever is added, replaced or brought together."""
    path = tmp_path / "x.parquet"

    def rows(*jobs):
        return pa.Table.from_pylist([{"job": job, "outcome": "completed"} for job in jobs])

    states = []

    def look():
        states.append((path.stat().st_size, pq.read_metadata(path), pq.read_table(path)))

    parquet.extend(path, rows("a", "b"))
    look()
    parquet.extend(path, rows("c"))
    look()
    parquet.replace(path, rows("c", "b", "a"))
    look()
    parquet.extend(path, rows("d"))
    look()
    found = [table["job"].to_pylist() for *_, table in states]
    assert found == [["a", "b"], ["a", "b", "c"], ["c", "b", "a"], ["c", "b", "a", "d"]]
    for size, footer, table in states:
        with pq.ParquetFile(path, metadata=footer) as file:
            assert file.read().equals(table)
        assert pq.read_table(pa.BufferReader(path.read_bytes()[:size])).equals(table)
    parquet.SMALL_BYTES, before = 0, parquet.SMALL_BYTES
    try:
        parquet.shrink(path)
    finally:
        parquet.SMALL_BYTES = before
    assert path.stat().st_size < size / 2
    assert pq.read_table(path).equals(table)


def old_part(run, name, jobs, rows=3):
    """A part as earlier versions wrote it."""
    for table in ("jobs", "metrics"):
        (run / table).mkdir(parents=True, exist_ok=True)
    some = [finished(job, rows) for job in jobs]
    table = pa.Table.from_pylist([dict(one.row) for one in some], schema=parquet.JOBS)
    metrics = spool.metrics_table([(one.row["job"], one.metrics) for one in some])
    pq.write_table(metrics, run / "metrics" / name)
    pq.write_table(table, run / "jobs" / name)


def test_a_merge_of_an_earlier_version_that_was_killed(tmp_path):
    """Its run is read right at once, and is right for every reader once it has been opened."""
    run = tmp_path / "results" / "grid"
    sweep = load_sweep(write_grid(tmp_path))
    with RunWriter(run, sweep, []):
        pass
    old_part(run, "000000-000001.parquet", ["a", "b", "c"])
    old_part(run, "000001-000001.parquet", ["b", "c"])
    old_part(run, "s1of2-0000abcd.000000-000000.parquet", ["c", "d"])
    assert sorted(globbed(run)) != ["a", "b", "c", "d"]
    for _ in range(2):
        assert sorted(tiltcli.read(run).jobs["job"]) == ["a", "b", "c", "d"]
        assert len(tiltcli.read(run).metrics) == 12
        with RunWriter(run, sweep, []) as writer:
            assert set(writer.outcomes()) == set("abcd")
        assert sorted(globbed(run)) == ["a", "b", "c", "d"]
        assert len(globbed(run, "metrics")) == 12


def test_a_stored_run_of_an_earlier_version_is_resumed(tmp_path):
    run = tmp_path / "results" / "stored"
    shutil.copytree("tests/data/stored_run", run)
    shutil.copy(run / "grid.toml", tmp_path / "stored.toml")
    whole = pd.read_csv(run / "whole.csv")
    before = set(globbed(run))
    assert 0 < len(before) < len(whole)
    summary = tiltcli.sweep(tmp_path / "stored.toml", results=tmp_path / "results")
    assert summary.before == len(before)
    found = tiltcli.read(run)
    assert sorted(globbed(run)) == sorted(whole["job"])
    same = ["job", "outcome", "train_loss", "val_accuracy", "epochs"]
    left = found.jobs.sort_values("job", ignore_index=True)[same]
    right = whole.sort_values("job", ignore_index=True)[same]
    pd.testing.assert_frame_equal(left, right, rtol=1e-12)
    assert set(found.metrics["job"]) == set(whole["job"])


class Disk:
    """What a disk has that loses everything that was not synchronised, after each change."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        self.contents, self.names, self.pending, self.states = {}, {}, [], []
        self.promised = {}
        replace_, fsync = os.replace, os.fsync

        def replaced(source, target):
            number = Path(source).stat().st_ino
            replace_(source, target)
            self.pending.append((Path(target), number))
            self.note()

        def synchronised(descriptor):
            fsync(descriptor)
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            if path.is_dir():
                here = [one for one in self.pending if one[0].parent == path]
                self.names.update(here)
                self.pending = [one for one in self.pending if one not in here]
            else:
                self.contents[os.fstat(descriptor).st_ino] = path.read_bytes()
            self.note()

        monkeypatch.setattr(os, "replace", replaced)
        monkeypatch.setattr(os, "fsync", synchronised)

    def note(self):
        """Each state that a power cut may leave now: with none, all or one of the late names."""
        for late in ([], self.pending, *([one] for one in self.pending)):
            names = {**self.names, **dict(late)}
            state = {path: self.contents.get(number, b"") for path, number in names.items()}
            if not self.states or self.states[-1][1] != state:
                self.states.append((self.promised, state))


def test_power_cut_at_every_step(tmp_path, monkeypatch, small):
    """What was committed is on the disk, whatever else got there and in whatever order."""
    sweep = load_sweep(write_grid(tmp_path))
    run = tmp_path / "grid"
    with monkeypatch.context() as patch:
        disk = Disk(run, patch)
        for committed in life_of_a_run(run, sweep):
            disk.promised = committed
    assert len(disk.states) > 30
    for number, (promised, state) in enumerate(disk.states):
        after = tmp_path / f"after{number}"
        for path, content in state.items():
            target = after / path.relative_to(run)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        if not (after / "sweep.toml").exists():
            assert not promised
            continue
        found = tiltcli.read(after)
        assert promised.keys() <= set(found.jobs["job"]), (number, sorted(state))
        sizes = found.metrics.groupby("job").size()
        assert all(sizes[job] == rows for job, rows in promised.items() if rows)
        shutil.rmtree(after)
