"""A grid that is written of chosen cells holds these cells and no others."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiltcli.errors import UserError
from tiltcli.evaluation.next_grids import Replicates, fresh, grid_text
from tiltcli.grid import parse_sweep

MIXED = """
[data]
kind = ["spiral", "digits"]
[model]
width = [3, 8]
[loss]
kind = ["static", "dynamical"]
base = ["cross_entropy", "mse"]
amplitude = [2, 5.5]
period = 6
rest = [0, 1]
[train]
epochs = 12
lr = [0.1, 1e-5]
batch_size = ["full", 16]
optimizer = ["sgd", "adam"]
momentum = [0.0, 0.9]
nesterov = [false, true]
seeds = 2
"""


def cell(job):
    apart = ("train.seed", "data.seed", "data.path")
    return repr([(key, value) for key, value in job.settings.items() if key not in apart])


def cells(jobs):
    return sorted({cell(job) for job in jobs})


def read(text):
    tomllib.loads(text)
    return parse_sweep(text, name="x", folder=Path())


@pytest.fixture(scope="module")
def mixed():
    return read(MIXED).jobs


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_cells_come_back(mixed, data):
    picked = data.draw(st.lists(st.sampled_from(mixed), min_size=1, max_size=8))
    back = read(grid_text("again", picked, Replicates([3, 9]), folder=Path()))
    assert cells(back.jobs) == cells(picked)
    assert {job["train.seed"] for job in back.jobs} == {3, 9}
    assert len(back.jobs) == 2 * len(cells(picked))
    assert back.name == "again"
    assert not back.unused


def test_fresh_seeds_and_draws(mixed):
    spirals = [job for job in mixed if job["data.kind"] == "spiral"]
    replicates = fresh(spirals, 20, draws=True)
    assert list(replicates.seeds) == list(range(100, 120))
    # Of a spiral with seed s the validation points are of seed s + 1, the test points of s + 2.
    parts = [seed + k for seed in replicates.draws for k in range(3)]
    assert len(set(parts)) == 60
    assert not set(parts) & {0, 1, 2}
    back = read(grid_text("again", spirals[:1], replicates, folder=Path()))
    pairs = [(job["train.seed"], job["data.seed"]) for job in back.jobs]
    assert pairs == list(zip(replicates.seeds, replicates.draws, strict=True))
    assert fresh(spirals, 4, draws=False).draws is None
    late = read(MIXED.replace("seeds = 2", "seeds = [0, 700]")).jobs
    assert min(fresh(late, 4, draws=False).seeds) == 701


def test_lists_texts_and_files(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "t.csv").write_text("a,b,y\n" + "1,2,u\n2,3,v\n" * 20)
    grid = """
[data]
kind = "file"
path = "mine/t.csv"
target = "y"
split = [0.5, 0.25, 0.25]
seed = 4
[model]
width = [3, 4]
[loss]
kind = "static"
[train]
epochs = 5
lr_schedule = [[0.0, 0.1], [1.0, 1.0]]
"""
    jobs = parse_sweep(grid, name="x", folder=tmp_path).jobs
    text = grid_text("again", jobs, Replicates([5]), folder=tmp_path / "mine")
    back = parse_sweep(text, name="x", folder=tmp_path / "mine").jobs
    assert cells(back) == cells(jobs)
    assert {job["data.seed"] for job in back} == {4}


def test_what_one_file_cannot_say():
    def job(train):
        text = f"[data]\nkind='spiral'\n[model]\nwidth=3\n[loss]\nkind='static'\n[train]\n{train}"
        return read(text + "epochs=5\n").jobs[0]

    with_schedule = job("lr_schedule=[[0.0, 1.0], [1.0, 0.1]]\n")
    both = [with_schedule, job("")]
    # The one without comes first; the other adds to it.
    assert cells(read(grid_text("g", both, Replicates([0]), folder=Path())).jobs) == cells(both)
    with pytest.raises(UserError, match="no cell"):
        grid_text("g", [], Replicates([0]), folder=Path())
