"""Kills well into a sweep, run by hand: python -m fuzz.kills COUNT [SEED].

Workers, the client, or all at once, of sweeps with minibatches by torch, by the convolution engine
and by the kernel, with checkpoints many times a second: each after as many jobs as are drawn, until
COUNT were killed. After each: no job twice, none lost that was there, no traceback; the run,
finished by the same command, equals the undisturbed one to the last bit, with no stray file.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tiltcli
from fuzz.full_disk import check
from helpers import write_grid

PICTURES = """
[data]
kind = "digits"
[model]
kind = "myrtle5"
width = [3, 4]
[loss]
amplitude = 4
period = 7
[train]
epochs = 25
batch_size = 200
lr = 0.02
momentum = 0.9
seeds = 12
"""
POINTS = """
[data]
kind = "digits"
[model]
width = [6, 9]
[loss]
amplitude = 4
period = 7
[train]
epochs = 400
batch_size = 100
lr = 0.02
optimizer = "adam"
seeds = 12
"""
SWEEPS = {"torch": PICTURES, "auto": PICTURES, "fused": POINTS}
JOBS = 24

IMPATIENT = """
import functools
if __name__ == "__main__":
    from tiltcli.execution import checks
    checks.RunOptions = functools.partial(checks.RunOptions, checkpoint_seconds=0.02)
    from tiltcli.store import part_files, write
    part_files.PART_COMMITS, write.COMMIT_SECONDS = 3, 0.1
    write.COMMIT_SHARE, write.WRITING_SHARE = 0, 1
    from tiltcli.cli import main
    main()
"""


def prepare(folder, text):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "impatient.py").write_text(IMPATIENT)
    write_grid(folder, text)
    return folder / "results" / "grid"


def begin(folder, engine):
    return subprocess.Popen(
        [
            sys.executable,
            "impatient.py",
            "sweep",
            "grid.toml",
            "--engine",
            engine,
            "--workers",
            "2",
        ],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def workers(process):
    words = ["ps", "-ww", "-o", "pid=", "-o", "args=", "--ppid", str(process.pid)]
    found = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    return [int(line.split()[0]) for line in found.splitlines() if "spawn_main" in line]


def alive(pid):
    try:
        return "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def kill(process, way):
    """Kill as the way says; return the workers that there were."""
    there = workers(process)
    with contextlib.suppress(ProcessLookupError):
        if way == "all":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(random.choice(there) if way == "worker" and there else process.pid, 9)
    return there


def disturbed(run, engine, way, rng):
    """One sweep, killed up to three times; return after how many jobs, and with what saved."""
    there, said = set(), []
    while True:
        process = begin(run.parents[1], engine)
        at, due = rng.randint(min(len(there), JOBS - 2), JOBS - 2), rng.uniform(0.1, 0.6)
        while process.poll() is None:
            time.sleep(0.02)
            there = check(run, there) if (run / "jobs").exists() else there
            if len(there) < at or len(said) == 3:
                continue
            time.sleep(due)
            if process.poll() is None:
                said.append((len(there), len(list(run.glob("checkpoints/*")))))
                orphans = kill(process, way)
                at = rng.randint(min(len(there), JOBS - 2), JOBS - 2)
                if way != "worker":
                    process.wait()
                    end = time.monotonic() + 30
                    while any(map(alive, orphans)):
                        assert time.monotonic() < end, "workers outlive their client"
                        time.sleep(0.05)
        text = process.communicate()[1]
        assert "Traceback" not in text, text
        there = check(run, there)
        if process.returncode == 0:
            return said


def main():
    parser = argparse.ArgumentParser(prog="fuzz.kills", description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    asked = parser.parse_args()
    rng = random.Random(asked.seed)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        whole, made = {}, 0
        for engine, text in SWEEPS.items():
            run = prepare(Path(place) / engine, text)
            tiltcli.sweep(run.parents[1] / "grid.toml", results=run.parent, engine=engine)
            whole[engine] = tiltcli.read(run)
        while made < asked.count:
            engine = rng.choice(list(SWEEPS))
            way = rng.choice(["worker", "client", "all"])
            run = prepare(Path(place) / "killed", SWEEPS[engine])
            said = disturbed(run, engine, way, rng)
            check(run, whole=whole[engine])
            made += len(said)
            print(f"{made:4} kills: {engine}, {way}, at (jobs, checkpoints) {said}", flush=True)


if __name__ == "__main__":
    main()
