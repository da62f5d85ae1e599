"""[search]: as many cells of each method, drawn from the space that the grid file says."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiltcli
from tiltcli.errors import UserError
from tiltcli.evaluation.tuning import tune
from tiltcli.grid import Sweep, parse_sweep

GRID = """
[data]
kind = "spiral"
seed = [0, 3]
[model]
width = [3, 4]
[loss]
kind = ["static", "dynamical"]
amplitude = { uniform = [1.5, 30] }
period = { loguniform = [2, 100] }
[train]
epochs = 20
lr = { loguniform = [0.01, 3] }
weight_decay = [0, 1e-3]
seeds = 2
log_every = 20
[sweep]
zip = [["data.seed", "train.seeds"]]
[search]
trials = 7
"""
LISTS = """
[data]
kind = "spiral"
[model]
width = 3
[loss]
kind = ["static", "dynamical"]
amplitude = [1.5, 3]
period = 10
[train]
epochs = 20
lr = [0.1, 0.2]
[search]
trials = 2
"""


def drawn(text: str, *overrides: str) -> Sweep:
    return parse_sweep(text, name="s", folder=Path(), overrides=overrides)


def cells(grid: Sweep) -> dict[tuple[object, ...], set[tuple[object, ...]]]:
    """Cells of each method in each row, written out from the jobs."""
    found: dict[tuple[object, ...], set[tuple[object, ...]]] = {}
    tuned = ("train.lr", "train.weight_decay", "loss.amplitude", "loss.period")
    for job in grid.jobs:
        row = (job["model.width"], job["loss.kind"])
        found.setdefault(row, set()).add(tuple(job.get(key) for key in tuned))
    return found


def test_each_method_has_as_many_cells_of_the_space_on_all_replicates() -> None:
    grid = drawn(GRID)
    assert {row: len(own) for row, own in cells(grid).items()} == {
        (width, kind): 7 for width in (3, 4) for kind in ("static", "dynamical")
    }
    assert len(grid.jobs) == 2 * 2 * 7 * 2
    assert {(job["data.seed"], job["train.seed"]) for job in grid.jobs} == {(0, 0), (3, 1)}
    for job in grid.jobs:
        assert 0.01 <= job["train.lr"] <= 3
        assert job["train.weight_decay"] in (0, 1e-3)
        if job["loss.kind"] == "dynamical":
            assert 1.5 <= job["loss.amplitude"] <= 30
            assert job["loss.period"] in range(2, 101)


def test_draws_hang_on_the_seed_the_row_and_the_method_alone() -> None:
    few = cells(drawn(GRID))
    more = cells(drawn(GRID, "search.trials=12", "model.width=[4, 3, 5]"))
    assert all(few[row] < more[row] for row in few)
    assert few == cells(drawn(GRID, "train.seeds=[5, 6]"))
    other = cells(drawn(GRID, "search.seed=1"))
    assert all(not few[row] & other[row] for row in few)


def test_draws_are_spread_as_the_grid_says() -> None:
    jobs = drawn(GRID, "search.trials=2000", "loss.kind=dynamical", "model.width=3").jobs
    rates = [job["train.lr"] for job in jobs]
    amplitudes = [job["loss.amplitude"] for job in jobs]
    # Of a loguniform draw half lies below the geometric mean of the ends, of a uniform one half
    # below their mean; four deviations of 2000 fair coins are 0.045.
    assert sum(rate < 0.03**0.5 for rate in rates) / len(jobs) == pytest.approx(0.5, abs=0.045)
    below = sum(amplitude < 15.75 for amplitude in amplitudes) / len(jobs)
    assert below == pytest.approx(0.5, abs=0.045)


def test_a_space_of_lists_may_be_drawn_whole_and_no_more() -> None:
    whole = drawn(LISTS, "loss.kind=dynamical", "search.trials=4")
    assert {(job["train.lr"], job["loss.amplitude"]) for job in whole.jobs} == {
        (0.1, 1.5),
        (0.1, 3.0),
        (0.2, 1.5),
        (0.2, 3.0),
    }
    with pytest.raises(UserError, match="from 1 to 2"):  # static jobs have no amplitude
        drawn(LISTS, "search.trials=3")


def test_blocks_of_one_method_share_its_trials() -> None:
    text = LISTS + "[[also]]\nloss.kind = 'static'\ntrain.optimizer = 'adam'\n"
    kinds = [job["loss.kind"] for job in drawn(text, "search.trials=4").jobs]
    assert sorted(kinds) == ["dynamical"] * 4 + ["static"] * 4


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("search.trials=0", "at most 10000"),
        (f"search.trials={10**18}", "at most 10000"),
        ("search.trial=5", "did you mean search.trials"),
        ("search.seed=-1", "from 0 to"),
        ("model.width={ uniform = [1, 2] }", "of what it searches"),
        ("train.lr={ uniform = [2, 1] }", "the first below the second"),
        ("train.lr={ loguniform = [0, 1] }", "above 0"),
        ("loss.kind={ uniform = [0, 1] }", "of what it searches"),
        ("loss.shape={ uniform = [0, 1] }", '"triangle"'),
    ],
)
def test_what_is_wrong_is_said_with_what_is_allowed(setting: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        drawn(GRID, setting)


def test_faults_are_told_all_at_once() -> None:
    tied = LISTS.replace("[search]", '[sweep]\nzip = [["train.lr", "loss.amplitude"]]\n[search]')
    with pytest.raises(UserError) as caught:
        drawn(tied, "search.trials=0")
    assert [fault.key for fault in caught.value.faults] == ["search.trials", "sweep.zip"]
    with pytest.raises(UserError, match="nothing to search"):
        drawn(LISTS, "train.lr=1", "loss.amplitude=3")
    with pytest.raises(UserError, match="only where there is a"):
        drawn(GRID.partition("[search]")[0])


def test_a_run_resumes_grows_and_is_tuned(tmp_path: Path) -> None:
    grid = tmp_path / "s.toml"
    grid.write_text(GRID.replace("[3, 4]", "3"))
    tiltcli.sweep(grid, results=tmp_path, overrides=["search.trials=3"], workers=0)
    again = tiltcli.sweep(grid, results=tmp_path, overrides=["search.trials=3"], workers=0)
    assert (again.total, again.before) == (12, 12)
    grown = tiltcli.sweep(
        grid, results=tmp_path, overrides=["search.trials=5"], workers=0, extend=True
    )
    assert (grown.total, grown.before) == (20, 12)
    jobs = tiltcli.read(tmp_path / "s").jobs
    assert [len(one.cells) for one in tune(jobs).candidates] == [5, 5]
    chosen = tiltcli.confirm(tmp_path / "s", tune=True, seeds=5)
    assert "search" not in chosen and chosen["data"]["seed"] == {"range": [100, 115, 3]}
    jobs = tiltcli.read(tmp_path / "s").jobs
    best = jobs.groupby("train.lr")["val_accuracy"].mean()
    confirmed = parse_sweep(chosen, name="c", folder=Path()).jobs
    assert {job["train.lr"] for job in confirmed} < {*best.index}
