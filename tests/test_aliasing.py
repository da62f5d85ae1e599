"""Rows that meet a pulse always at the same moments: counted one by one, and said."""

import tomllib
from pathlib import Path

import pytest

from helpers import GRID, tilt, write_grid
from tiltcli.analysis.aliasing import FEW, Logged, aliasing
from tiltcli.grid import load_sweep


def counted(pulse, every, updates):
    return len({row * every * updates % pulse for row in range(pulse)})


@pytest.mark.parametrize("pulse", [1, 2, 10, 11, 50, 300])
@pytest.mark.parametrize("every", [1, 7, 100, 199, 200])
@pytest.mark.parametrize("updates", [1, 4, 15])
def test_phases_are_those_that_rows_meet(pulse, every, updates):
    assert Logged(pulse, every, updates).phases() == counted(pulse, every, updates)
    note = aliasing([Logged(pulse, every, updates)])
    met = counted(pulse, every, updates)
    assert (note is None) == (met >= min(FEW, pulse))
    if note and "; train.log_every = " in note:
        better = int(note.rpartition("; train.log_every = ")[2].split()[0])
        assert better >= every and counted(pulse, better, updates) > met


def test_one_better_number_for_every_pulse():
    note = aliasing([Logged(10, 200), Logged(300, 200), Logged(77, 1)])
    assert note.startswith("train.log_every = 200 meets only 1 of the 10 steps of a pulse")
    better = int(note.rpartition("; train.log_every = ")[2].split()[0])
    assert counted(10, better, 1) == 10 and counted(300, better, 1) == 300


def test_it_is_said_before_the_sweep_and_with_the_figures(tmp_path):
    write_grid(tmp_path, GRID.replace("log_every = 50", "log_every = 40"))
    told = "train.log_every = 40 meets only 1 of the 20 steps of a pulse"
    assert told in tilt("sweep", "grid.toml", "--dry-run", cwd=tmp_path).stdout
    assert tilt("sweep", "grid.toml", cwd=tmp_path).returncode == 0
    dynamical = "grid@loss.kind=dynamical,loss.amplitude=3"
    for kind, run in (("curves", "grid"), ("trace", dynamical)):
        assert f"note: {told}" in tilt("plot", kind, run, cwd=tmp_path).stderr
    assert told not in tilt("plot", "trace", "grid@loss.kind=static", cwd=tmp_path).stderr
    assert told not in tilt("plot", "phase", "grid", cwd=tmp_path).stderr


@pytest.mark.parametrize("name", ["spiral", "fair"])
def test_the_templates_see_their_pulses(name, tmp_path):
    text = Path(f"src/tiltcli/grid/templates/{name}.toml").read_text(encoding="utf-8")
    tomllib.loads(text)
    (tmp_path / "grid.toml").write_text(text, encoding="utf-8")
    tilted = [j for j in load_sweep(tmp_path / "grid.toml").jobs if j["loss.kind"] == "dynamical"]
    logs = [Logged(job["loss.period"] + job["loss.rest"], job["train.log_every"]) for job in tilted]
    assert logs and aliasing(logs) is None
