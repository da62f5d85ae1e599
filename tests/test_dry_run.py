"""A dry run refuses what the run would, in the same words, and leaves everything as it was."""

import contextlib

import pytest

import tiltcli
from helpers import GRID, tilt, write_grid
from tiltcli.store.locks import RunLock

SMALL = ["--set", "train.epochs=20", "--set", "train.seeds=1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a grid, and its run."""
    folder = tmp_path_factory.mktemp("dry")
    write_grid(folder)
    assert tilt("sweep", "grid.toml", *SMALL, cwd=folder).returncode == 0
    (folder / "results" / "other").mkdir()
    (folder / "results" / "other" / "notes.txt").write_text("not a run")
    (folder / "results" / "plain").write_text("a file")
    return folder


def state(folder):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in sorted(folder.rglob("*"))
    }


@contextlib.contextmanager
def written(folder, shard=None):
    """The run, while somebody else writes it."""
    lock = RunLock(folder, shard)
    with lock.gate():
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


REFUSED = {
    "another grid": (["--set", "train.lr=0.5"], None, "train.lr: unset there, 0.5 here"),
    "a smaller grid": (["--extend", "--set", "model.width=4"], None, "adds no job"),
    "in use": ([], (), "in use by another tiltcli process, which is writing it"),
    "a shard of it in use": ([], ("s1of2",), "is writing shard 1/2"),
    "all of it in use": (["--shard", "1/2"], (), "is writing all of it"),
    "the same shard": (["--shard", "1/2"], ("s1of2",), "is writing shard 1/2 of it"),
    "to be removed while in use": (["--fresh"], (), "in use by another tiltcli process"),
    "no run to remove": (["--fresh", "--set", "name=other"], None, "not a run (no sweep.toml)"),
    "a file in the way": (["--set", "name=plain"], None, "is in the way: not a folder"),
    "results that are a file": (["--results", "grid.toml"], None, "cannot be written: Not a dir"),
    "a shard anew": (["--shard", "1/2", "--fresh"], None, "would remove what the other shards"),
    "grown and anew": (["--extend", "--fresh"], None, "--extend keeps a run, --fresh removes it"),
    "less than no worker": (
        ["--workers", "-1"],
        None,
        "--workers: got -1; allowed: a whole number",
    ),
    "too many workers": (["--workers", "99999"], None, "(in this process) to 4096"),
    "cuda on a cluster": (["--cluster", "tcp://host:1", "--device", "cpu"], None, "--device: is"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_run_refuses_its_dry_run_refuses(run, name):
    words, writer, said = REFUSED[name]
    words = ["sweep", "grid.toml", *SMALL, *words]
    holding = contextlib.nullcontext()
    if writer is not None:
        holding = written(run / "results" / "grid", *writer)
    with holding:
        before = state(run)
        dry = tilt(*words, "--dry-run", cwd=run)
        assert state(run) == before
        real = tilt(*words, cwd=run)
    assert said in real.stderr
    assert (dry.returncode, dry.stderr) == (real.returncode, real.stderr)
    assert (real.returncode, dry.stdout) == (2, "")


def test_what_it_says_is_what_the_run_does(run):
    words = ["sweep", "grid.toml", *SMALL]
    done = tilt(*words, "--dry-run", cwd=run)
    assert (done.returncode, done.stdout.splitlines()[0]) == (
        0,
        "grid: 6 jobs (8 combinations, 2 duplicates removed), 6 already done",
    )
    again = tilt(*words, "--fresh", "--shard", "1/1", "--dry-run", cwd=run)
    assert again.returncode == 2
    share = tilt(*words, "--shard", "2/4", "--dry-run", cwd=run).stdout
    assert "; of the 2 in shard 2/4, 2 already done" in share.splitlines()[0]
    fresh = tilt(*words, "--fresh", "--dry-run", cwd=run)
    assert "0 already done" in fresh.stdout
    more = ["--extend", "--set", "train.seeds=2"]
    grown = tilt("sweep", "grid.toml", "--set", "train.epochs=20", *more, "--dry-run", cwd=run)
    assert "12 jobs (16 combinations, 4 duplicates removed), 6 already done" in grown.stdout


def test_failed_jobs_are_done_unless_they_run_again(tmp_path, monkeypatch):
    from tiltcli.execution import train_job

    def broken(name):
        raise RuntimeError("no engine")

    grid = write_grid(tmp_path, GRID.replace("[4, 8]", "4"))
    with monkeypatch.context() as patch:
        patch.setattr(train_job, "load_engine", broken)
        tiltcli.sweep(grid, results=tmp_path / "results", workers=1)
    for words, done in (([], 9), (["--retry-failed"], 0)):
        shown = tilt("sweep", "grid.toml", *words, "--dry-run", cwd=tmp_path).stdout
        assert f", {done} already done" in shown.splitlines()[0]
