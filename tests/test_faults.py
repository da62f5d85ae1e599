"""Faults of disks and machines, with real processes and file systems.

In each case what was finished is kept, the message is the user's, and the run that is finished
afterwards equals the undisturbed one.
"""

import contextlib
import itertools
import os
import signal
import subprocess
import time

import pytest

import tiltcli
from helpers import GRID, command, same_tables, tilt, write_grid
from tiltcli.store import parts

LONGER = (
    GRID.replace("seeds = 3", "seeds = 40")
    .replace("epochs = 200", "epochs = 10000")
    .replace("log_every = 50", "log_every = 100")
)


@pytest.fixture(scope="module")
def whole_folder(tmp_path_factory):
    """The longer grid, undisturbed."""
    folder = tmp_path_factory.mktemp("whole")
    tiltcli.sweep(write_grid(folder, LONGER), results=folder)
    return folder


@pytest.fixture(scope="module")
def whole(whole_folder):
    return tiltcli.read("grid", whole_folder)


@contextlib.contextmanager
def mounted(folder, options):
    """A small file system of its own at a folder."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        made = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("NOT TESTED: there is no mount command here")
    if made.returncode:
        pytest.skip(f"NOT TESTED: a file system cannot be mounted here ({made.stderr.strip()})")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder, options):
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def test_full_disk(tmp_path, whole, whole_folder):
    """It fills up mid-run: exit code 2, one line, finished jobs kept; with room, the rest too."""
    # Too small for the run, however few files it is written in.
    size = sum(path.stat().st_size for path in whole_folder.rglob("*.parquet")) * 6 // 10
    write_grid(tmp_path, LONGER)
    results = tmp_path / "results"
    with mounted(results, f"size={size}"):
        full = tilt("sweep", "grid.toml", "--quiet", cwd=tmp_path)
        assert full.returncode == 2, full.stderr
        (line,) = full.stderr.strip().splitlines()
        assert "the disk is full" in line
        assert "run the same command again" in line
        kept = set(tiltcli.read("grid", results).jobs["job"])
        assert len(kept) < 240
        assert not list(results.rglob(".*.tmp"))
        remount(results, "size=64m")
        again = tilt("sweep", "grid.toml", cwd=tmp_path)
        assert again.returncode == 0, again.stderr
        assert not kept or f"{len(kept)} were done before" in again.stderr
        same_tables(tiltcli.read("grid", results), whole)


def test_full_disk_from_the_start(tmp_path):
    write_grid(tmp_path)
    results = tmp_path / "results"
    with mounted(results, "size=64k"):
        (results / "ballast").write_bytes(bytes(60 << 10))
        full = tilt("sweep", "grid.toml", "--quiet", cwd=tmp_path)
        assert full.returncode == 2, full.stderr
        assert "Traceback" not in full.stderr
        (results / "ballast").unlink()
        remount(results, "size=8m")
        assert tilt("sweep", "grid.toml", cwd=tmp_path).returncode == 0
        assert len(tiltcli.read("grid", results).jobs) == 18


def test_read_only_results(tmp_path):
    """Said before anything is trained; what is there can still be read and shown."""
    write_grid(tmp_path)
    results = tmp_path / "results"
    with mounted(results, "size=8m"):
        assert tilt("sweep", "grid.toml", "--set", "train.seeds=2", cwd=tmp_path).returncode == 0
        remount(results, "ro")
        for words in (["--set", "train.seeds=2"], ["--set", "name=other"], ["--shard", "1/2"]):
            refused = tilt("sweep", "grid.toml", *words, cwd=tmp_path)
            assert refused.returncode == 2, refused.stderr
            assert "cannot be written: Read-only file system" in refused.stderr
            assert "Traceback" not in refused.stderr
        shown = tilt("runs", "grid", cwd=tmp_path)
        assert "12 of 12 jobs done" in shown.stdout
        remount(results, "rw")
        assert tilt("sweep", "grid.toml", "--set", "train.seeds=2", cwd=tmp_path).returncode == 0


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garble(path):
    """Other bytes in the middle of the data; the file's end stays good."""
    content = bytearray(path.read_bytes())
    for place in range(60, len(content) // 3):
        content[place] ^= 0xA5
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("table", ["jobs", "metrics"])
@pytest.mark.parametrize("damage", [cut, garble, empty], ids=lambda f: f.__name__)
def test_damaged_file(tmp_path, table, damage):
    """Found, named, set aside, its jobs done again; so too with a stray temporary file."""
    grid = write_grid(tmp_path)
    results = tmp_path / "results"
    other = ["train.seeds=[2]", "train.lr=0.5", "name=other"]
    tiltcli.sweep(grid, results=results, overrides=other)
    tiltcli.sweep(grid, results=results)
    undisturbed = tiltcli.read("grid", results)
    path = sorted((results / "grid" / table).iterdir())[-1]
    damage(path)
    stray = results / "grid" / "metrics" / ".000009-000009.parquet.1234.tmp"
    stray.write_bytes(b"PAR1")
    commands = (("runs", "grid"), ("compare", "grid", "other"), ("plot", "phase", "grid"))
    for words in commands if damage is cut else ():
        shown = tilt(*words, cwd=tmp_path)
        if table == "metrics" and path.name not in shown.stderr:
            continue  # the jobs table alone was asked for
        assert shown.returncode == 2, shown.stderr
        assert path.name in shown.stderr
        assert "Traceback" not in shown.stderr
    if damage is cut:
        again = tilt("sweep", "grid.toml", cwd=tmp_path)
        assert again.returncode == 0, again.stderr
        said = again.stderr
    else:
        said = "\n".join(tiltcli.sweep(grid, results=results).notes)
    assert f"set aside {table}/{path.name}" in said
    assert stray.name in said
    assert not stray.exists()
    assert path.with_suffix(".damaged").exists()
    same_tables(tiltcli.read("grid", results), undisturbed)


def test_a_file_that_is_missing(tmp_path):
    """Metrics removed by hand: their jobs are done again."""
    grid = write_grid(tmp_path)
    tiltcli.sweep(grid, results=tmp_path)
    undisturbed = tiltcli.read("grid", tmp_path)
    next((tmp_path / "grid" / "metrics").iterdir()).unlink()
    shown = tilt("plot", "curves", "grid", "--results", tmp_path, cwd=tmp_path)
    assert (shown.returncode, "Traceback" in shown.stderr) == (2, False)
    tiltcli.sweep(grid, results=tmp_path)
    same_tables(tiltcli.read("grid", tmp_path), undisturbed)


def test_a_clock_going_back(tmp_path, monkeypatch):
    """Nothing but the date in the provenance hangs on the time of day."""
    grid = write_grid(tmp_path)
    tiltcli.sweep(grid, results=tmp_path / "whole")
    hours = itertools.count()
    monkeypatch.setattr(time, "time", lambda: 1e9 - 3600.0 * next(hours))
    monkeypatch.setattr(time, "time_ns", lambda: int(1e18 - 3.6e12 * next(hours)))
    for shard in ("2/3", "1/3"):
        tiltcli.sweep(grid, results=tmp_path / "back", shard=shard)
        for path in (tmp_path / "back" / "grid").rglob("*"):
            os.utime(path, (2e9, 2e9))  # files from the future
    tiltcli.sweep(grid, results=tmp_path / "back")
    same_tables(tiltcli.read("grid", tmp_path / "back"), tiltcli.read("grid", tmp_path / "whole"))


def test_the_machine_dies_in_the_middle(tmp_path, whole):
    """Client and all its workers killed at once, as by a power cut, then started again."""
    write_grid(tmp_path, LONGER)
    folder = tmp_path / "results" / "grid"
    process = subprocess.Popen(
        command("sweep", "grid.toml"),
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not parts.live(folder):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = len(tiltcli.read(folder).jobs)
    again = tilt("sweep", "grid.toml", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert f"{kept} were done before" in again.stderr
    same_tables(tiltcli.read(folder), whole)
