"""A full disk at random moments, run by hand: python -m fuzz.full_disk COUNT [SEED].

A file system of a few pages to many, in sweeps, shards and pages, until it was full COUNT times.
After each: no job twice, none lost that was there, no traceback, no half of an output; and the run
that is finished once there is room equals the undisturbed one.
"""

import argparse
import os
import random
import tempfile
from pathlib import Path

import duckdb

import tiltcli
from helpers import GRID, same_tables, tilt, write_grid
from test_faults import mounted, remount


def globbed(run, table="jobs", what="job"):
    try:
        return [
            row[0] for row in duckdb.sql(f"select {what} from '{run}/{table}/*.parquet'").fetchall()
        ]
    except duckdb.IOException:
        return []


def check(run, before=frozenset(), whole=None):
    """Nothing twice, nothing lost; returns the jobs that are there."""
    jobs = globbed(run)
    assert len(jobs) == len(set(jobs)), "a job twice"
    assert before <= set(jobs), "a job lost"
    rows = globbed(run, "metrics", "job || ' ' || epoch")
    assert len(rows) == len(set(rows)), "a row of metrics twice"
    if jobs:
        assert set(jobs) <= set(tiltcli.read(run).jobs["job"])  # a writer may be at work
    if whole is not None:
        same_tables(tiltcli.read(run), whole)
        assert not (run / "checkpoints").exists()
        assert not [path for path in run.rglob(".*") if path.is_file()]
    return set(jobs)


def prepare(folder, text):
    folder.mkdir()
    write_grid(folder, text)
    return folder / "results" / "grid"


def undisturbed(folder, text):
    run = prepare(folder, text)
    ended = tilt("sweep", "grid.toml", "--quiet", cwd=folder)
    assert ended.returncode == 0, ended.stderr
    return tiltcli.read(run)


def disk(count, rng, place):
    text = GRID.replace("seeds = 3", "seeds = 12").replace("log_every = 50", "log_every = 2")
    text = text.replace("epochs = 200", "epochs = 600")
    whole = undisturbed(place / "whole", text)
    full, rounds = 0, 0
    probe = '\n[probe]\nevery = 300\nquantities = ["hessian"]\n'
    while full < count:
        rounds += 1
        folder = place / f"small{rounds}"
        prepare(folder, text + probe * (rounds % 3 == 0))
        results, kept, times = folder / "results", set(), 0
        size = 4096 * rng.randint(1, 200)
        ways = [[], ["--shard", "1/2"], ["--workers", "0"], ["--shard", "2/3"]]
        with mounted(results, f"size={size}"):
            while True:
                ended = tilt("sweep", "grid.toml", "--quiet", *rng.choice(ways), cwd=folder)
                assert ended.returncode in (0, 2), ended
                assert "Traceback" not in ended.stderr, ended.stderr
                kept = check(results / "grid", kept)
                if len(kept) == len(whole.jobs) and ended.returncode == 0:
                    break
                if ended.returncode:
                    full, times = full + 1, times + 1
                    assert "disk is full" in ended.stderr or "No space" in ended.stderr, (
                        ended.stderr
                    )
                    size += 4096 * rng.randint(1, 60)
                    remount(results, f"size={size}")
            remount(results, "size=100m")
            tilt("sweep", "grid.toml", "--quiet", cwd=folder)
            check(results / "grid", kept, whole)
            room = os.statvfs(results)
            for words in (
                ["report", "grid", "-o", "results/r.html"],
                ["plot", "curves", "grid", "-o", "results/c.png"],
                ["compare", "grid@loss.kind=static", "grid@loss.kind=dynamical"],
                ["confirm", "grid", "-o", "results/c.toml"],
            ):
                used = (room.f_blocks - room.f_bfree) * room.f_frsize
                remount(results, f"size={used + 4096 * rng.randint(0, 4)}")
                before = sorted(results.iterdir())
                ended = tilt(*words, cwd=folder)
                assert ended.returncode in (0, 1, 2), ended
                assert "Traceback" not in ended.stderr, ended.stderr
                if ended.returncode == 2:
                    full += 1
                    assert (
                        "No space" in ended.stderr
                        or "disk is full" in ended.stderr
                        or "confirm" in words
                    ), ended
                    assert sorted(results.iterdir()) == before, sorted(results.iterdir())
                check(results / "grid", kept)
        print(f"{full:4} times full: {times} in sweep {rounds}", flush=True)


def main():
    parser = argparse.ArgumentParser(prog="fuzz.full_disk", description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        disk(asked.count, random.Random(asked.seed), Path(folder))


if __name__ == "__main__":
    main()
