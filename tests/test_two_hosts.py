"""A client and a cluster on two hosts with a bad line between them."""

import subprocess
import time

import tiltcli
from bad_line import BadLine
from dask_cluster import one_process
from helpers import GRID, command, same_tables, unlucky, write_grid


def test_the_cable_is_pulled(tmp_path):
    """Each frame takes 50 ms, one in 50 is lost; then none gets through while jobs end."""
    text = GRID.replace("epochs = 200", "epochs = 20000").replace("50", "2000")
    grid, go = write_grid(tmp_path, text), tmp_path / "go"
    held, here = unlucky(HOLD=go, HOLD_AT=1), tmp_path / "here"
    with (
        BadLine(loss=0.02) as line,
        one_process(
            line.addresses["there"], extra_env=held, within=line.inside("there")
        ) as address,
    ):
        words = command("sweep", "grid.toml", "--cluster", address, "--send-tables")
        with subprocess.Popen(
            [*line.inside("here"), *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True
        ) as client:
            while not list(tmp_path.glob("go.*")):  # a job is under way
                assert client.poll() is None, client.stderr.read()
                time.sleep(0.05)
            line.cut = True
            go.touch()
            time.sleep(3)
            assert not list(tmp_path.glob("results/grid/jobs/*.parquet"))
            line.cut = False
            said = client.communicate(timeout=60)[1]
    assert client.returncode == 0 and "18 completed" in said, said
    assert min(line.frames) > 0
    tiltcli.sweep(grid, results=here)
    same_tables(tiltcli.read("grid", tmp_path / "results"), tiltcli.read("grid", here))
