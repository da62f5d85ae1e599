"""A run on disk: whole files, few files, readable by anything, and nothing lost."""

import errno
import json
import signal
import subprocess
import time
import tomllib

import duckdb
import pandas as pd
import polars
import pyarrow.parquet as pq
import pytest

import tiltcli
from helpers import GRID, command, same_tables, tilt, write_grid
from tiltcli.errors import UserError
from tiltcli.grid import load_sweep
from tiltcli.store import RunWriter, files, parquet, parts, spool

MANY = (
    GRID.replace("seeds = 3", "seeds = 60")
    .replace("epochs = 200", "epochs = 20000")
    .replace("log_every = 50", "log_every = 500")
)


@pytest.fixture
def run(tmp_path):
    grid = write_grid(tmp_path)
    summary = tiltcli.sweep(grid, results=tmp_path / "results")
    assert summary.ended == {"completed": 18}
    return tmp_path / "results" / "grid"


def test_only_columns_that_repeat_have_dictionaries(run):
    (path,) = (run / "metrics").iterdir()
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    kept = {one.path_in_schema for one in columns if one.has_dictionary_page}
    losses = {"train_loss", "dynamical_loss", "val_loss"}
    assert kept == {one.path_in_schema for one in columns} - losses


def test_files_and_schemas(run):
    assert sorted(p.name for p in run.iterdir()) == [
        "jobs",
        "metrics",
        "provenance.json",
        "sweep.toml",
    ]
    for table in ("jobs", "metrics"):
        path = next((run / table).iterdir())
        file = pq.ParquetFile(path)
        assert file.metadata.row_group(0).column(0).compression == "ZSTD"
        for field in file.schema_arrow:
            assert field.metadata[b"meaning"], field.name
            assert b"unit" in field.metadata
    provenance = json.loads((run / "provenance.json").read_text())
    (invocation,) = provenance["invocations"]
    assert {"tiltcli", "libraries", "processor", "cores", "command", "git_commit"} <= set(
        invocation
    )
    assert tomllib.loads((run / "sweep.toml").read_text())["train"]["seeds"] == 3


def test_columns_are_the_contracts(run):
    tables = tiltcli.read(run)
    assert list(tables.metrics.columns) == [
        "job",
        "epoch",
        "step",
        "train_loss",
        "dynamical_loss",
        "train_accuracy",
        "train_balanced_accuracy",
        "val_loss",
        "val_accuracy",
        "val_balanced_accuracy",
        "lr",
    ]
    for name in (
        "job",
        "outcome",
        "error",
        "data.kind",
        "model.width",
        "loss.kind",
        "loss.amplitude",
        "loss.period",
        "train.lr",
        "train.seed",
        "parameters",
        "train_samples",
        "train_loss",
        "train_accuracy",
        "train_balanced_accuracy",
        "val_loss",
        "val_accuracy",
        "val_balanced_accuracy",
        "test_loss",
        "test_accuracy",
        "test_balanced_accuracy",
        "epochs",
        "seconds",
        "engine",
    ):
        assert name in tables.jobs.columns
    static = tables.jobs["loss.kind"] == "static"
    oscillation = [f"loss.{n}" for n in ("amplitude", "period", "rest", "settle", "shape")]
    assert tables.jobs.loc[static, oscillation].isna().all().all()
    assert tables.jobs.loc[~static, oscillation].notna().all().all()
    epochs = tables.metrics.groupby("job")["epoch"].apply(list)
    assert all(found == [0, 50, 100, 150, 200] for found in epochs)
    final = tables.metrics.groupby("job")["train_loss"].last()
    jobs = tables.jobs.set_index("job")["train_loss"]
    pd.testing.assert_series_equal(final, jobs.sort_index(), check_names=False)


def test_last_epoch_is_logged_even_between(tmp_path):
    grid = write_grid(tmp_path, GRID.replace("log_every = 50", "log_every = 70"))
    tiltcli.sweep(grid, results=tmp_path, overrides=["train.seeds=1"])
    epochs = tiltcli.read("grid", tmp_path).metrics.groupby("job")["epoch"].apply(list)
    assert all(found == [0, 70, 140, 200] for found in epochs)


def test_readable_by_others_as_it_stands(run):
    count = len(tiltcli.read(run).metrics)
    pattern = str(run / "metrics" / "*.parquet")
    with duckdb.connect() as connection:
        joined = connection.sql(
            f"select count(*), avg(jobs.train_accuracy) from '{pattern}' join "
            f"'{run / 'jobs'}/*.parquet' as jobs using (job) where jobs.\"model.width\" = 8"
        ).fetchall()[0]
    assert joined[0] == count / 2
    assert polars.read_parquet(pattern).height == count
    assert len(pd.read_parquet(run / "metrics")) == count
    assert pq.read_table(run / "jobs").num_rows == 18


def test_running_again_does_only_what_is_missing(tmp_path, run):
    before = {p: p.stat().st_mtime_ns for p in (run / "jobs").iterdir()}
    again = tiltcli.sweep(tmp_path / "grid.toml", results=tmp_path / "results")
    assert (again.before, again.ended.total()) == (18, 0)
    assert {p: p.stat().st_mtime_ns for p in (run / "jobs").iterdir()} == before
    assert len(json.loads((run / "provenance.json").read_text())["invocations"]) == 2


def test_another_grid_under_the_same_name_is_refused(tmp_path, run):
    write_grid(tmp_path, GRID.replace("epochs = 200", "epochs = 300"))
    with pytest.raises(UserError, match=r"train\.epochs: 200 there, 300 here"):
        tiltcli.sweep(tmp_path / "grid.toml", results=tmp_path / "results")
    assert len(tiltcli.read(run).jobs) == 18
    tiltcli.sweep(tmp_path / "grid.toml", results=tmp_path / "results", fresh=True)
    assert set(tiltcli.read(run).jobs["train.epochs"]) == {300}


def test_fresh_never_removes_what_is_not_a_run(tmp_path):
    grid = write_grid(tmp_path)
    (tmp_path / "results" / "grid").mkdir(parents=True)
    precious = tmp_path / "results" / "grid" / "thesis.txt"
    precious.write_text("x")
    with pytest.raises(UserError, match="will not remove"):
        tiltcli.sweep(grid, results=tmp_path / "results", fresh=True)
    assert precious.exists()


def test_the_number_of_workers_does_not_matter(tmp_path, run):
    tiltcli.sweep(tmp_path / "grid.toml", results=tmp_path / "one", workers=1)
    same_tables(tiltcli.read(run), tiltcli.read("grid", tmp_path / "one"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of MANY that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    tiltcli.sweep(write_grid(folder, MANY), results=folder)
    return tiltcli.read("grid", folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_cleanly_and_resumed(tmp_path, whole, number):
    write_grid(tmp_path, MANY)
    with subprocess.Popen(
        command("sweep", "grid.toml"), cwd=tmp_path, text=True, stderr=subprocess.PIPE
    ) as process:
        wait_for_jobs(tmp_path / "results" / "grid")
        process.send_signal(number)
        message = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "stopping" in message
    assert "the same command resumes" in message
    part = tiltcli.read("grid", tmp_path / "results")
    assert 0 < len(part.jobs) < 360
    assert not list((tmp_path / "results" / "grid").rglob(".*.tmp"))
    again = tilt("sweep", "grid.toml", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    same_tables(tiltcli.read("grid", tmp_path / "results"), whole)


def wait_for_jobs(folder):
    deadline = time.monotonic() + 60
    while not parts.live(folder):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_killed_again_and_again(tmp_path, whole):
    """kill -9 at any moment: readable at once, and in the end as if nothing had happened."""
    write_grid(tmp_path, MANY)
    folder = tmp_path / "results" / "grid"
    kept: set[str] = set()
    for delay in (0.0, 0.13, 0.4, 1.1):
        with subprocess.Popen(
            command("sweep", "grid.toml"), cwd=tmp_path, stderr=subprocess.DEVNULL
        ) as process:
            wait_for_jobs(folder)
            time.sleep(delay)
            process.kill()
        tables = tiltcli.read(folder)
        assert kept <= set(tables.jobs["job"])
        kept = set(tables.jobs["job"])
        assert set(tables.metrics["job"]) == kept
    final = tilt("sweep", "grid.toml", cwd=tmp_path)
    assert final.returncode == 0, final.stderr
    same_tables(tiltcli.read(folder), whole)
    assert len(list(folder.rglob("*.parquet"))) < 40
    assert not list(folder.rglob(".*.tmp"))


def test_two_at_once_the_second_is_refused(tmp_path):
    grid = write_grid(tmp_path)
    with RunWriter(tmp_path / "results" / "grid", load_sweep(grid), [], False):
        second = tilt("sweep", "grid.toml", cwd=tmp_path)
    assert second.returncode == 2
    assert "in use by another" in second.stderr


def test_long_jobs_leave_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "SPILL_ROWS", 40)
    grid = write_grid(tmp_path, GRID.replace("log_every = 50", "log_every = 1"))
    tiltcli.sweep(grid, results=tmp_path / "spilled")
    monkeypatch.undo()
    tiltcli.sweep(grid, results=tmp_path / "held")
    same_tables(tiltcli.read("grid", tmp_path / "spilled"), tiltcli.read("grid", tmp_path / "held"))
    assert not list((tmp_path / "spilled").rglob(".*.tmp"))


def test_damaged_part_is_set_aside_and_done_again(tmp_path, run):
    whole = tiltcli.read(run)
    (path,) = (run / "metrics").iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be read"):
        tiltcli.read(run)
    (run / "jobs" / ".stray.1.tmp").write_text("x")
    again = tiltcli.sweep(tmp_path / "grid.toml", results=tmp_path / "results")
    assert again.ended.total() == 18
    assert "set aside metrics/" in " ".join(again.notes)
    assert ".stray.1.tmp" in " ".join(again.notes)
    same_tables(tiltcli.read(run), whole)


def test_full_disk_is_said_and_survived(tmp_path, monkeypatch):
    grid = write_grid(tmp_path)
    original = parquet.replace

    def full(path, table):
        if path.parent.name == "jobs":
            raise files.unwritable(path, OSError(errno.ENOSPC, "No space left on device"))
        original(path, table)

    monkeypatch.setattr(parquet, "replace", full)
    with pytest.raises(UserError, match="the disk is full"):
        tiltcli.sweep(grid, results=tmp_path / "results")
    monkeypatch.undo()
    assert tiltcli.read("grid", tmp_path / "results").jobs.empty
    assert tiltcli.sweep(grid, results=tmp_path / "results").ended["completed"] == 18
    assert len(tiltcli.read("grid", tmp_path / "results").metrics) == 18 * 5


def test_failed_jobs_are_kept_named_and_retried(tmp_path, monkeypatch):
    from tiltcli.execution import train_job as training

    grid = write_grid(tmp_path)
    original = training.load_engine

    def flawed(name):
        def train(job, data, context):
            if job["train.seed"] == 1:
                raise RuntimeError("the dog ate it")
            yield from original(name)(job, data, context)

        return train

    monkeypatch.setattr(training, "load_engine", flawed)
    summary = tiltcli.sweep(grid, results=tmp_path)
    assert summary.ended == {"completed": 12, "failed": 6}
    assert set(summary.failures.values()) == {"RuntimeError: the dog ate it"}
    jobs = tiltcli.read("grid", tmp_path).jobs
    assert jobs.loc[jobs["outcome"] == "failed", "error"].str.contains("Traceback").all()
    shown = tilt("runs", "grid", "--results", tmp_path, cwd=tmp_path)
    assert "the dog ate it" in shown.stdout
    monkeypatch.undo()
    assert tiltcli.sweep(grid, results=tmp_path).ended.total() == 0
    assert tilt("sweep", grid, "--results", tmp_path, cwd=tmp_path).returncode == 1
    again = tiltcli.sweep(grid, results=tmp_path, retry_failed=True)
    assert again.ended == {"completed": 6}
    assert not again.failures
    assert set(pq.read_table(tmp_path / "grid" / "jobs")["outcome"].to_pylist()) == {"completed"}


def test_fail_fast(tmp_path, monkeypatch):
    from tiltcli.execution import train_job as training

    def broken(name):
        raise RuntimeError("no engine")

    grid = write_grid(tmp_path, MANY)
    monkeypatch.setattr(training, "load_engine", lambda name: broken if name else None)
    summary = tiltcli.sweep(grid, results=tmp_path, fail_fast=True, workers=1)
    assert 1 <= summary.ended["failed"] < 20
    assert "--fail-fast" in " ".join(summary.notes)


def test_a_killed_torch_worker_costs_no_job(tmp_path):
    """One worker is killed from outside; its job runs again."""
    grid = write_grid(tmp_path, GRID.replace("epochs = 200", "epochs = 4000"))
    few = ["--set", "train.seeds=1", "--set", "model.width=4", "--set", "loss.kind=static"]
    words = ["sweep", grid, "--engine", "torch", *few]
    with subprocess.Popen(
        command(*words), cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        victim = wait_for_child(process.pid)
        time.sleep(3.0)
        subprocess.run(["kill", "-9", victim], check=True)
        process.communicate(timeout=120)
    assert process.returncode == 0
    tilt(*words, "--results", "whole", "--workers", "0", cwd=tmp_path)
    same_tables(
        tiltcli.read("grid", tmp_path / "results"), tiltcli.read("grid", tmp_path / "whole")
    )


def wait_for_child(pid):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = subprocess.run(
            ["pgrep", "-P", str(pid), "-f", "spawn_main"],
            check=False,
            capture_output=True,
            text=True,
        ).stdout.split()
        if found:
            return found[-1]
        time.sleep(0.05)
    raise AssertionError("no worker came up")
