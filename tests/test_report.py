"""Reports and confirmation grids: chosen on validation, judged on fresh seeds, said as measured."""

import dataclasses

import pandas as pd
import pytest

import tiltcli
from helpers import GRID, tilt, write_grid
from tiltcli.errors import UserError
from tiltcli.evaluation.next_grids import chosen_cells
from tiltcli.evaluation.tuning import tune
from tiltcli.grid import load_sweep
from tiltcli.reports.loaded_runs import load_run
from tiltcli.reports.verdict_list import judge, notes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("report")
    grid = GRID.replace("period = [20]", "period = [20, 40]").replace(
        "epochs = 200", "epochs = 900"
    )
    write_grid(path, grid, "phase")
    assert tilt("sweep", "phase.toml", cwd=path).returncode == 0
    written = tilt("confirm", "phase", "-o", "confirm.toml", "--seeds", "6", cwd=path)
    assert written.returncode == 0, written.stderr
    assert tilt("sweep", "confirm.toml", cwd=path).returncode == 0
    return path


def test_confirmation_is_what_validation_chose_on_fresh_seeds(folder):
    sweep = load_sweep(folder / "confirm.toml")
    assert sweep.name == "phase-confirm"
    assert len(sweep.jobs) == 2 * 2 * 6
    jobs = tiltcli.read("phase", folder / "results").jobs
    dynamical = jobs[jobs["loss.kind"] == "dynamical"]
    for width in (4, 8):
        means = dynamical[dynamical["model.width"] == width].groupby(
            ["loss.amplitude", "loss.period"]
        )["val_accuracy"]
        best = means.mean().idxmax()
        chosen = {
            (job["loss.amplitude"], job["loss.period"])
            for job in sweep.jobs
            if job["loss.kind"] == "dynamical" and job["model.width"] == width
        }
        assert chosen == {best}
    assert {job["train.seed"] for job in sweep.jobs} == set(range(100, 106))
    assert {job["train.epochs"] for job in sweep.jobs} == {900}
    assert {job["data.points_per_class"] for job in sweep.jobs} == {20}


def test_cells_with_lost_jobs_are_not_chosen():
    rows = [
        {"outcome": outcome, "loss.kind": "dynamical", "model.width": 4, "loss.amplitude": a}
        | {"loss.period": 9, "train.seed": seed, "val_accuracy": value, "train_accuracy": value}
        | {"job": f"{a}-{seed}", "seconds": 1.0, "labels": "[0, 1, 2]", "data.seed": 0}
        | {"parameters": 27, "train_samples": 60}
        for a, seed, value, outcome in [
            (3.0, 0, 0.9, "completed"),
            (3.0, 1, 0.9, "diverged"),
            (5.0, 0, 0.5, "completed"),
            (5.0, 1, 0.7, "completed"),
        ]
    ]
    jobs = pd.DataFrame(rows)
    assert chosen_cells(jobs, ["loss.amplitude", "loss.period"]) == {(5.0, 9)}
    with pytest.raises(UserError, match="did you mean val_accuracy"):
        tune(jobs, "val_acc")


def test_report(folder):
    shown = tilt("report", "phase", "phase-confirm", "-o", "results/REPORT.md", cwd=folder)
    assert shown.returncode == 0, shown.stderr
    text = (folder / "results" / "REPORT.md").read_text()
    assert "| claim | run | verdict |" in text
    assert "| phase-confirm | **" in text
    assert "Its cells are those that validation chose in phase, on seeds it never used." in text
    for line in text.splitlines():
        if line.startswith("!["):
            assert (folder / "results" / line.split("](")[1].rstrip(")")).is_file()
    found = tiltcli.compare(
        "phase-confirm@loss.kind=static",
        "phase-confirm@loss.kind=dynamical",
        results=folder / "results",
    )
    for value in found.rows["difference"]:
        assert f"{value:+.4f}" in text


def test_report_notices_cells_that_were_not_chosen(folder):
    text = (folder / "confirm.toml").read_text()
    other = text.replace("seeds = {", "lr = 1.0\nseeds = {").replace(
        "amplitude = ", "amplitude = 1"
    )
    (folder / "other.toml").write_text(other)
    words = ("sweep", "other.toml", "--set", "name=other", "--set", "train.seeds=2")
    assert tilt(*words, cwd=folder).returncode == 0
    assert tilt("report", "phase", "other", "-o", "other.md", cwd=folder).returncode == 0
    assert "not those that validation chooses in phase" in (folder / "other.md").read_text()


def test_report_asks_the_run_that_a_confirmation_came_from(folder):
    """Runs of other lengths or networks on the same data had nothing to choose for it."""
    shorter = ("--set", "name=shorter", "--set", "train.epochs=100", "--set", "train.seeds=2")
    assert tilt("sweep", "phase.toml", *shorter, cwd=folder).returncode == 0
    words = ("report", "shorter", "phase", "phase-confirm", "-o", "three.md")
    assert tilt(*words, cwd=folder).returncode == 0
    text = (folder / "three.md").read_text()
    assert "Its cells are those that validation chose in phase, on seeds it never used." in text
    assert "not those that validation" not in text


def test_what_was_not_tested_is_said_as_it_is(folder):
    """Claims about curvature are untested only where nothing was probed."""
    runs = [load_run(name, folder / "results") for name in ("phase", "phase-confirm")]
    judged = judge(runs)
    assert len(judged) > 0
    (said,) = notes(judged, runs)[1:]
    assert "are not tested here: no run of this report was probed" in said
    probes = pd.DataFrame({"job": [runs[0].tables.jobs["job"][0]], "epoch": [0]})
    tables = dataclasses.replace(runs[0].tables, probes=probes)
    runs[0] = dataclasses.replace(runs[0], tables=tables)
    (said,) = notes(judged, runs)[1:]
    assert "are not judged here: the curvature that was probed is shown" in said
    finding = dataclasses.replace(judged[0].finding, claim="Another")
    assert len(notes([*judged, dataclasses.replace(judged[0], finding=finding)], runs)) == 1


def test_a_report_of_one_sweep_says_what_would_judge_it(folder):
    assert tilt("report", "phase", "-o", "alone.md", cwd=folder).returncode == 0
    verdicts = (folder / "alone.md").read_text().partition("## Verdicts")[2]
    assert "`tiltcli confirm phase -o phase-confirm.toml`" in verdicts
    written = tilt("confirm", "phase", "-o", "phase-confirm.toml", cwd=folder)
    assert written.returncode == 0  # what is said is what works
    run = load_run("phase", folder / "results")
    bare = dataclasses.replace(run, static=run.static[:0])
    assert "no run here has both" in notes([], [bare])[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["report", "nope"], "no run 'nope'"),
        (["report", "nope", "nil"], "no run 'nil'"),
        (["report", "phase", "-o", "x.docx"], "ends in one of .html"),
        (["confirm", "phase", "--metric", "accuracy"], "did you mean"),
        (["confirm", "phase", "-o", "no/such/file.toml"], "cannot be written"),
    ],
)
def test_wrong_guesses(folder, words, said):
    refused = tilt(*words, cwd=folder)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


def test_two_shapes_are_two_cells_to_choose_from(tmp_path):
    """One amplitude and period, but two shapes: nothing is judged as if they were one cell."""
    grid = GRID.replace("amplitude = [3, 10]", "amplitude = 3\nshape = ['triangle', 'sine']")
    tiltcli.sweep(write_grid(tmp_path, grid, "shapes"), results=tmp_path / "results")
    run = load_run("shapes", tmp_path / "results")
    assert run.cells == 2
    assert judge([run]) == []
    assert len(run.comparison("val_accuracy").rows) == 2 * 3
