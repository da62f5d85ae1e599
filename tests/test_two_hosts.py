"""A client and a cluster on two hosts with a bad line between them."""

import os
import subprocess
import sys
import time

import tiltcli
from bad_line import BadLine
from helpers import GRID, command, same_tables, unlucky, write_grid

CLUSTER = """
import sys, threading
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(1, threads_per_worker=2, processes=False, dashboard_address=None,
                      protocol="tcp", host=sys.argv[1]) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


def test_the_cable_is_pulled(tmp_path):
    """Each frame takes 50 ms, one in 50 is lost; then none gets through while jobs end."""
    text = GRID.replace("epochs = 200", "epochs = 20000").replace("50", "2000")
    grid, go = write_grid(tmp_path, text), tmp_path / "go"
    env = {**os.environ, **unlucky(HOLD=go, HOLD_AT=1)}
    pipe = subprocess.PIPE
    with (
        BadLine(loss=0.02) as line,
        subprocess.Popen(
            [*line.inside("there"), sys.executable, "-c", CLUSTER, line.addresses["there"]],
            env=env, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True,
        ) as cluster,
    ):  # fmt: skip
        address = cluster.stdout.readline().strip()
        words = command("sweep", "grid.toml", "--cluster", address, "--send-tables")
        with subprocess.Popen(
            [*line.inside("here"), *words], cwd=tmp_path, stderr=pipe, text=True
        ) as client:
            while not (mark := list(tmp_path.glob("go.*"))):  # a job is under way
                assert client.poll() is None, client.stderr.read()
                time.sleep(0.05)
            line.cut = True
            go.touch()
            time.sleep(3)
            assert mark and not list(tmp_path.glob("results/grid/jobs/*.parquet"))
            line.cut = False
            said = client.communicate(timeout=60)[1]
        cluster.stdin.close()
    assert client.returncode == 0 and "18 completed" in said, said
    assert min(line.frames) > 0
    tiltcli.sweep(grid, results=tmp_path / "here")
    same_tables(tiltcli.read("grid", tmp_path / "results"), tiltcli.read("grid", tmp_path / "here"))
