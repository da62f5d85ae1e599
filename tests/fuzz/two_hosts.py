"""Two hosts with a bad line between them, run by hand: python -m fuzz.two_hosts [SECONDS [SEED]].

A scheduler and two workers are on one host, the client on the other; each frame between them takes
50 ms, one in a hundred is lost, and for some SECONDS (60) at random moments nothing gets through,
or the client's or the workers' network card is down. After each: nothing lost, nothing twice, no
traceback; and the run, finished by the same command, equals one that was never disturbed. Needs
root and /dev/net/tun.
"""

import contextlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bad_line import BadLine
from fuzz.full_disk import check, prepare, undisturbed
from helpers import GRID, command

TEXT = GRID.replace("seeds = 3", "seeds = 40").replace("epochs = 200", "epochs = 60000")
DASK = [sys.executable, "-m", "dask"]


def cluster(line, folder, stack):
    """Begin a scheduler and its workers on the host `there`; return the address."""
    host = line.addresses["there"]
    address = f"tcp://{host}:8786"
    for words in (
        ["scheduler", "--host", host, "--port", "8786", "--no-dashboard"],
        ["worker", address, "--nworkers", "2", "--nthreads", "1", "--no-dashboard"],
    ):
        with (folder / f"{words[0]}.log").open("w") as log:
            process = subprocess.Popen(
                [*line.inside("there"), *DASK, *words], stdout=log, stderr=log, cwd=folder
            )
        stack.callback(process.wait)
        stack.callback(process.terminate)
    return address


@contextlib.contextmanager
def disturbed(line, way):
    """Nothing gets through, in one of several ways."""
    if way == "cut":
        line.cut = True
        yield
        line.cut = False
    elif way in line.addresses:
        line.plug(way, "down")
        yield
        line.plug(way, "up")
    else:
        yield


def sweep(line, folder, address, way, seconds, rng, whole):
    """One run, disturbed once; the same command again until it is finished."""
    words = ["sweep", "grid.toml", "--cluster", address, *["--send-tables"] * rng.randint(0, 1)]
    run, there, codes, started = prepare(folder, TEXT), set(), [], time.monotonic()
    while 0 not in codes:
        with subprocess.Popen(
            [*line.inside("here"), *command(*words)], cwd=folder, stderr=subprocess.PIPE, text=True
        ) as process:
            if not codes and way != "quiet":
                while process.poll() is None and not (run.exists() and check(run)):
                    time.sleep(0.1)
                time.sleep(rng.uniform(0, 5))
                before = check(run)
                with disturbed(line, way):
                    time.sleep(seconds)
                    there = check(run, before)
            said = process.communicate(timeout=900)[1]
        codes.append(process.returncode)
        there = check(run, there)
        assert "Traceback" not in said, said
        assert process.returncode in (0, 2), (process.returncode, said)
        assert process.returncode == 0 or "does not answer any more" in said, said
        print(f"  exit code {codes[-1]}, {len(there)} jobs: {said.strip()[-300:]}", flush=True)
    check(run, there, whole)
    print(f"{way}: exit codes {codes}, {time.monotonic() - started:.0f} s, {words[4:]}", flush=True)


def main(seconds=60.0, seed=0):
    rng = random.Random(int(seed))
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        folder = Path(place)
        whole = undisturbed(folder / "whole", TEXT)
        line = stack.enter_context(BadLine(seed=int(seed)))
        address = cluster(line, folder, stack)
        for number, way in enumerate(["quiet", "cut", "here", "there"]):
            sweep(line, folder / str(number), address, way, seconds, rng, whole)
        print("frames carried and lost:", line.frames)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
