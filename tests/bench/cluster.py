"""What a Dask cluster adds to tiny jobs: the same jobs here, and on workers of this machine."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from pathlib import Path

from bench.overhead import TINY, parse
from dask_cluster import DaskCluster
from tiltcli.engines.machine import cores
from tiltcli.execution import runner
from tiltcli.execution.checks import RunOptions

SEEDS = 2


def report():
    """Print wall milliseconds per tiny job, and return them; None without Dask."""
    if importlib.util.find_spec("distributed") is None:
        print("on a Dask cluster: NOT MEASURED, distributed is not installed")
        return None
    from tiltcli.execution.dask import ClusterTrainer

    sweep = parse(TINY, "tiny", f"train.seeds={SEEDS}")
    count = len(sweep.jobs)
    found = {"jobs": count}
    with tempfile.TemporaryDirectory() as place, DaskCluster(place, workers=cores()) as cluster:

        def per_job(name, trainer=None):
            # Twice: the first time, workers import and compile.
            for _ in range(2):
                started = time.monotonic()
                runner.run_sweep(sweep, Path(place) / name, RunOptions(fresh=True), trainer=trainer)
                found[name] = 1000 * (time.monotonic() - started) / count

        per_job("here")
        for name, send_tables in (("shared", False), ("sent", True)):
            with ClusterTrainer(cluster.address, send_tables) as trainer:
                per_job(name, trainer)
    print(
        f"{count} tiny jobs (width 3, 20 steps, fused): per job {found['here']:.2f} ms here; on a "
        f"Dask cluster of {cores()} single-threaded workers {found['shared']:.2f} ms where they "
        f"write to the run's folder, {found['sent']:.2f} ms where they send their tables"
    )
    return found


if __name__ == "__main__":
    report()
