"""What a sweep costs besides training: expanding, scheduling, storing.

Shares are of processor time as well as of wall time: on a busy machine only the first means much.
"""

from __future__ import annotations

import contextlib
import resource
import tempfile
import time
from pathlib import Path

from tiltcli.engines.machine import cores
from tiltcli.engines.mlp import kernel
from tiltcli.execution import runner
from tiltcli.execution.checks import RunOptions
from tiltcli.grid import parse_sweep

SMALL = """
[data]
kind = "spiral"
[model]
width = 30
[loss]
amplitude = 10
period = 300
[train]
epochs = 2000
seeds = 1000
"""

TINY = """
[data]
kind = "spiral"
points_per_class = 10
[model]
width = 3
[loss]
kind = ["static", "dynamical"]
amplitude = { linspace = [1.5, 50, 33] }
period = { range = [10, 310, 10] }
[train]
epochs = 20
seeds = 100
"""


@contextlib.contextmanager
def kernel_time():
    """Count the processor seconds spent in the kernel, all threads together, and its first call.

    That is in its steps, and in measuring the trained network on the test points.
    """
    spent, began = [], []
    originals = kernel._descend, kernel._evaluate

    def counting(original):
        def counted(*arguments):
            if not began:
                began.append((time.monotonic(), time.process_time()))
            started = time.thread_time()
            result = original(*arguments)
            spent.append(time.thread_time() - started)
            return result

        return counted

    kernel._descend, kernel._evaluate = map(counting, originals)
    try:
        yield spent, began
    finally:
        kernel._descend, kernel._evaluate = originals


def parse(text, name, *overrides):
    return parse_sweep(text, name=name, folder=Path(), overrides=overrides)


def small_jobs():
    """Seconds, and shares of processor and wall time outside the kernel, start-up apart."""
    with tempfile.TemporaryDirectory() as folder:
        runner.run_sweep(parse(SMALL, "warm", "train.seeds=2"), Path(folder))
        with kernel_time() as (spent, began):
            summary = runner.run_sweep(parse(SMALL, "many"), Path(folder))
            wall = time.monotonic() - began[0][0]
            processor = time.process_time() - began[0][1]
        files = sum(1 for path in (Path(folder) / "many").rglob("*") if path.is_file())
    return summary.seconds, 1 - sum(spent) / processor, 1 - sum(spent) / cores() / wall, files


def tiny_jobs(seeds, engine):
    """Jobs, and milliseconds of processor and wall time per job outside training, by phase."""
    with tempfile.TemporaryDirectory() as folder:
        warm = parse(TINY, "warm", "train.seeds=2", "loss.amplitude=3", "loss.period=10")
        runner.run_sweep(warm, Path(folder), RunOptions(engine=engine))
        started = time.monotonic()
        sweep = parse(TINY, "tiny", f"train.seeds={seeds}")
        expanded = time.monotonic() - started
        started, before = time.monotonic(), time.process_time()
        runner.run_sweep(sweep, Path(folder), RunOptions(engine=engine))
        wall, processor = time.monotonic() - started, time.process_time() - before
        size = sum(p.stat().st_size for p in (Path(folder) / "tiny").rglob("*") if p.is_file())
    count = len(sweep.jobs)
    return {
        "jobs": count,
        "expand_ms": 1000 * expanded / count,
        "wall_ms": 1000 * wall / count,
        "processor_ms": 1000 * processor / count,
        "bytes": size / count,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def report():
    """Print both, and return them."""
    seconds, processor, wall, files = small_jobs()
    print(
        f"1000 jobs of width 30 and 2000 steps: {seconds:.2f} s; not training: {processor:.1%} of "
        f"the processor time, {wall:.1%} of the wall time on {cores()} cores; {files} files"
    )
    found = {"small_processor": processor, "small_wall": wall}
    for engine, seeds in (("fused", 10), ("torch", 1)):
        one = found[f"tiny_{engine}"] = tiny_jobs(seeds, engine)
        print(
            f"{one['jobs']} tiny jobs (width 3, 20 steps, {engine}): per job "
            f"{one['expand_ms']:.3f} ms to expand, {one['wall_ms']:.2f} ms to check, schedule, "
            f"train and store ({one['processor_ms']:.2f} ms of this process), "
            f"{one['bytes']:.0f} bytes stored; peak memory {one['peak_mib']:.0f} MiB"
        )
    return found


if __name__ == "__main__":
    report()
