"""Readers in a loop beside whatever changes a run, run by hand: python -m fuzz.readers COUNT.

DuckDB on the folder's files, the files as a glob lists them, and `tiltcli.read`, beside a sweep
some of whose jobs fail, the failed ones tried again, probes, branches, a run that grows, mv and rm.
No job is ever there twice; none that was once seen is missing until mv or rm, after which a reader
finds nothing at that place, never a part of the run.
"""

import contextlib
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

import tiltcli
from helpers import GRID, tilt_process, unlucky, write_grid
from tiltcli.errors import UserError

TEXT = GRID.replace("seeds = 3", "seeds = 8").replace("epochs = 200", "epochs = 20")
GROWN = TEXT.replace("seeds = 8", "seeds = 12")
with contextlib.chdir(Path(__file__).parents[2]):
    CRASH = unlucky(CRASH_SEED=3)
COMMANDS = (
    ("sweep grid.toml --engine torch", 1, CRASH),
    ("sweep grid.toml --retry-failed", 0, {}),
    ("probe grid --every 10", 0, {}),
    ("branch grid --job JOB --epoch 10 --points 8 --steps 300", 0, {}),
    ("sweep grown.toml --extend", 0, {}),
    ("mv grid other", 0, {}),
    ("mv other grid", 0, {}),
    ("rm grid --yes", 0, {}),
)


def by_duckdb(run):
    return [row[0] for row in duckdb.sql(f"from '{run}/jobs/*.parquet' select job").fetchall()]


def by_glob(run):
    files = list((run / "jobs").glob("*.parquet"))
    return [name for file in files for name in pq.read_table(file)["job"].to_pylist()]


def by_read(run):
    return list(tiltcli.read(run).jobs["job"])


def kernel_job(run):
    jobs = tiltcli.read(run).jobs
    return jobs["job"][jobs["engine"] == "fused"].iloc[0]


class Readers:
    """Look at a run again and again, each reader in a thread of its own."""

    def __init__(self, run):
        self.run, self.stop, self.moving = run, threading.Event(), threading.Event()
        self.looks, self.none, self.faults = Counter(), Counter(), set()
        self.threads = [
            threading.Thread(target=self.look, args=(way,)) for way in (by_duckdb, by_glob, by_read)
        ]

    def look(self, way):
        seen, name = set(), way.__name__
        while not self.stop.is_set():
            moving = self.moving.is_set()
            try:
                found = way(self.run)
            except (duckdb.IOException, FileNotFoundError, UserError) as error:
                moving |= self.moving.is_set()
                self.none[name] += 1
                if seen and not moving:
                    self.faults.add(f"{name}: {error}")
                continue
            moving |= self.moving.is_set()
            self.looks[name] += 1
            if len(found) != len(set(found)):
                self.faults.add(f"{name}: a job twice")
            if not moving and not seen <= set(found):
                self.faults.add(f"{name}: {len(seen - set(found))} jobs missing")
            seen |= set(found)


def beside(folder):
    write_grid(folder, TEXT)
    write_grid(folder, GROWN.replace("[data]", 'name = "grid"\n[data]', 1), "grown")
    run = folder / "results" / "grid"
    readers = Readers(run)
    for thread in readers.threads:
        thread.start()
    try:
        for text, code, given in COMMANDS:
            if text.startswith(("mv", "rm")):
                readers.moving.set()
            job = kernel_job(run) if "JOB" in text else ""
            ended = tilt_process(*text.replace("JOB", job).split(), cwd=folder, extra_env=given)
            if ended.returncode != code or "Traceback" in ended.stderr:
                readers.faults.add(f"{text}: {ended.returncode} {ended.stderr[-500:]}")
    finally:
        readers.stop.set()
        for thread in readers.threads:
            thread.join()
    assert not run.exists() or readers.faults
    return readers


def main(count="1"):
    for number in range(int(count)):
        with tempfile.TemporaryDirectory() as place:
            readers = beside(Path(place))
        print(f"{number}: looked {dict(readers.looks)}, no run {dict(readers.none)}", flush=True)
        assert not readers.faults, "\n".join(sorted(readers.faults))


if __name__ == "__main__":
    main(*sys.argv[1:])
