"""A run grows by seeds, cells or a whole further grid; what is done stays as it is."""

import json

import pandas as pd
import pytest

import tiltcli
from helpers import tilt, write_grid
from tiltcli.evaluation.next_grids import refinement_grid
from tiltcli.grid import load_run

GRID = """
[data]
kind = "spiral"
points_per_class = 15
[model]
width = [3, 5]
[loss]
kind = ["static", "dynamical"]
amplitude = 4
period = [6, 12]
[train]
epochs = 40
seeds = 2
log_every = 20
"""


@pytest.fixture
def run(tmp_path):
    write_grid(tmp_path, GRID)
    assert tilt("sweep", "grid.toml", cwd=tmp_path).returncode == 0
    return tmp_path / "results" / "grid"


def test_more_seeds(run, tmp_path):
    before = tiltcli.read(run).jobs
    refused = tilt("sweep", "grid.toml", "--set", "train.seeds=3", cwd=tmp_path)
    assert refused.returncode == 2
    assert "--extend" in refused.stderr
    grown = tilt("sweep", "grid.toml", "--set", "train.seeds=3", "--extend", cwd=tmp_path)
    assert grown.returncode == 0, grown.stderr
    assert "6 completed; 12 were done before" in grown.stderr
    after = tiltcli.read(run).jobs
    assert len(after) == 18
    kept = after[after["job"].isin(before["job"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, before)  # the seconds too: nothing was trained again
    assert sorted(path.name for path in run.glob("sweep*.toml")) == ["sweep-2.toml", "sweep.toml"]
    # Both grids are the run's own now.
    for words in ([], ["--set", "train.seeds=3"]):
        again = tilt("sweep", "grid.toml", *words, cwd=tmp_path)
        assert again.returncode == 0
        assert "nothing to do" in again.stderr


def test_more_cells_and_what_lists_the_run(run, tmp_path):
    other = GRID.replace("width = [3, 5]", "width = 8").replace("epochs = 40", "epochs = 20")
    write_grid(tmp_path, other, "more")
    grown = tilt("sweep", "more.toml", "--set", "name=grid", "--extend", cwd=tmp_path)
    assert grown.returncode == 0, grown.stderr
    fact = json.loads(tilt("runs", "grid", "--format", "json", cwd=tmp_path).stdout)
    assert (fact["jobs"], fact["done"], fact["missing"]) == (18, 18, 0)
    assert fact["axes"]["model.width"] == [3, 5, 8]
    assert fact["axes"]["train.epochs"] == [40, 20]
    assert {job.id for job in load_run(run).jobs} == set(tiltcli.read(run).jobs["job"])
    shown = tilt(
        "plot", "trace", "grid", "--where", "model.width == 8", "-o", "t.png", cwd=tmp_path
    )
    assert shown.returncode == 0, shown.stderr


def test_a_run_only_grows(run, tmp_path):
    less = tilt("sweep", "grid.toml", "--set", "train.seeds=1", "--extend", cwd=tmp_path)
    assert less.returncode == 2
    assert "adds no job to the run's 12 and would leave 6 of them out" in less.stderr
    assert [path.name for path in run.glob("sweep*.toml")] == ["sweep.toml"]


def test_halving(run, tmp_path):
    text = refinement_grid(run, keep=1, seeds=4, folder=tmp_path)
    write_grid(tmp_path, text, "next")
    tiltcli.sweep(tmp_path / "next.toml", results=tmp_path / "results", extend=True)
    jobs = tiltcli.read(run).jobs
    counts = jobs.groupby(["model.width", "loss.kind", "loss.period"], dropna=False).size()
    # Of two widths and two methods one cell each has four seeds; of the others two.
    assert sorted(counts.tolist()) == [2, 2, 4, 4, 4, 4]


def test_shards_extend_as_well(run, tmp_path):
    for shard in ("1/2", "2/2"):
        done = tilt(
            *("sweep", "grid.toml", "--set", "train.seeds=4", "--extend", "--shard", shard),
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
    assert len(tiltcli.read(run).jobs) == 24
    assert len(list(run.glob("sweep*.toml"))) == 2
