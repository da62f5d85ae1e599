"""Instabilities by pulse, and where λ_max stands as they begin; the command that prints them."""

import csv
import io
import json

import numpy as np
import pandas as pd
import pytest

import tiltcli
from helpers import GRID, fig4_losses, fig4_network, tilt, write_grid
from tiltcli.analysis.pulses import Curvature, crossings, hessian_near, instabilities
from tiltcli.analysis.traces import Trace
from tiltcli.errors import UserError
from tiltcli.grid import load_sweep
from tiltcli.schedule import Schedule

SMALL = """
[data]
kind = "spiral"
[model]
width = 10
[loss]
kind = ["static", "dynamical"]
amplitude = 20
period = 500
rest = 1
settle = 500
[train]
epochs = 3006
dtype = "float64"
log_every = 1
"""


def curvature(steps, heights, bound=2.0):
    return Curvature(np.asarray(steps), np.asarray(heights, dtype=float), bound)


def test_crossings_need_calm_before():
    steps = np.arange(0, 1000, 25)
    rising = np.minimum(1.0 + steps / 500, 2.5)
    assert crossings(curvature(steps, rising)) == [500]
    # Between two probes the step is interpolated.
    assert crossings(curvature([0, 100, 200, 300], [1.0, 1.0, 1.5, 2.5])) == [250]
    # Once it has crossed, the back and forth between two branches is no further crossing …
    jumping = np.where((steps // 25) % 2 == 0, rising, rising - 1.2)
    assert crossings(curvature(steps, np.where(steps < 500, rising, jumping))) == [500]
    # … until it has been below for 100 steps.
    again = np.where((steps >= 600) & (steps < 800), 1.0, rising)
    assert crossings(curvature(steps, again)) == [500, 775 + round(25 / 1.5)]


def test_crossings_leave_out_the_beginning_and_what_did_not_converge():
    assert crossings(curvature([0, 25, 50], [3.0, 3.0, 3.0])) == []
    assert crossings(curvature([0, 200, 225, 250], [1.0, np.nan, 1.5, 2.5])) == [238]
    assert crossings(curvature([], [])) == []


def test_height_at_an_onset_is_of_the_upper_branch():
    probed = curvature([100, 125, 150], [1.0, 3.0, np.nan])
    assert hessian_near(probed, 110) == (3.0, 1.5)
    assert hessian_near(probed, 125) == (3.0, 1.5)
    assert hessian_near(probed, 130) == (3.0, 1.5)
    assert hessian_near(probed, 99) == (1.0, 0.5)
    assert np.isnan(hessian_near(probed, 400)).all()
    assert np.isnan(hessian_near(probed, 151)).all()


def test_fig4_by_pulse():
    schedule = fig4_network()[2]
    found = instabilities(fig4_losses(35_000), schedule, None)[:3]
    assert [one.pulse for one in found] == [1, 2, 3]
    assert [one.label for one in found] == [0, 1, 2]
    for one in found:
        assert one.t == one.onset - (one.pulse - 1) * 5001
        assert one.gamma == schedule.gamma(one.onset)[one.label]
        assert one.gamma > 2.5
        assert one.end > one.pulse * 5001  # it dies early in the next pulse
        assert one.crossing is None
        assert np.isnan([one.hessian_max, one.share]).all()
    assert found[0].cascade.periods == (2,)
    assert 4 in found[2].cascade.periods


def test_nothing_oscillates_in_a_settled_or_static_loss():
    F = 0.3 + 1e-3 * (-1.0) ** np.arange(500)
    schedule = Schedule(3, 5.0, 100, 0, 0)
    for one in (schedule, None):
        (found,) = instabilities(F, one, curvature([0, 1], [2.0, 3.0]))
        assert (found.pulse, found.label, found.t, found.gamma) == (None, None, None, 1.0)
        assert found.share == 1.5
        assert found.end is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pulses")
    tiltcli.sweep(write_grid(path, SMALL, "small"), results=path / "results")
    tiltcli.sweep(write_grid(path, GRID, "grid"), results=path / "results")
    return path


def test_command_says_what_the_losses_show(folder):
    shown = tilt("instabilities", "small", "--format", "json", cwd=folder)
    assert shown.returncode == 0, shown.stderr
    page = json.loads(shown.stdout)
    assert (page["format"], page["run"], page["jobs"]) == (1, "small", 2)
    rows = page["instabilities"]
    assert rows
    metrics = tiltcli.read("small", folder / "results").metrics
    for row in rows:
        F = metrics[metrics["job"] == row["job"]].set_index("epoch")["dynamical_loss"]
        signs = np.sign(np.diff(F.loc[row["onset"] - 1 : row["onset"] + 20], 2))
        assert (signs[1:] == -signs[:-1]).sum() >= 4
        if row["pulse"] is not None:  # a static loss has instabilities too
            assert row["onset"] == 501 * (row["pulse"] - 1) + row["t"]
        assert row["hessian_max"] is None
    assert shown.stderr.count("was not probed") == 1


def test_command_as_table_and_csv(folder):
    words = ("instabilities", "small@loss.kind=dynamical")
    table = tilt(*words, cwd=folder)
    assert table.returncode == 0, table.stderr
    rows = list(csv.DictReader(io.StringIO(tilt(*words, "--format", "csv", cwd=folder).stdout)))
    assert len(table.stdout.splitlines()) == len(rows) + 1
    for line, row in zip(table.stdout.splitlines()[1:], rows, strict=True):
        assert row["onset"] in line.split()
        assert row["crossing"] == ""
    some = tilt(*words, "--swing", "1e3", cwd=folder)
    assert some.stdout == ""
    assert "no instability" in some.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["grid"], "train.log_every = 1 keeps them all"),
        (["smal"], "did you mean small"),
        (["small", "--format", "jsn"], "did you mean json"),
        (["small", "--swing", "0"], "a number > 0"),
        (["small", "--job", "zzz"], "no job zzz"),
        (["small", "--where", "train.seed == 9"], "no job meets"),
    ],
)
def test_wrong_guesses(folder, words, said):
    refused = tilt("instabilities", *words, cwd=folder)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


def test_diverged_jobs_and_jobs_without_single_steps(folder):
    grid = SMALL.replace("[train]", "[train]\nlr = [1.0, 1e4]").replace("3006", "1503")
    grid += "\n[[also]]\nloss.kind = 'static'\ntrain.lr = 0.5\ntrain.log_every = 10\n"
    tiltcli.sweep(write_grid(folder, grid, "wild"), results=folder / "results")
    shown = tilt("instabilities", "wild", "--format", "json", cwd=folder)
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["jobs"] == 4
    assert "1 jobs are left out" in shown.stderr


def test_minibatches_have_no_single_steps(folder):
    text = SMALL.replace("epochs = 3006", "epochs = 3006\nbatch_size = 100")
    job = load_sweep(write_grid(folder, text, "batches")).jobs[0]
    one = Trace(job, pd.DataFrame(), pd.DataFrame(), None, 3, 300, "")
    with pytest.raises(UserError, match=r'only train\.batch_size = "full"'):
        one.step_losses()
