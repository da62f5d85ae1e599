"""From a tuning to its next round and to its confirmation, as the commands write them."""

from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import tiltcli
from helpers import write_grid
from tiltcli.cli.main import load_commands
from tiltcli.cli.options import app
from tiltcli.errors import UserError
from tiltcli.evaluation.next_grids import confirmation_grid, refinement_grid
from tiltcli.grid import parse_sweep

load_commands()
GRID = """
[data]
kind = "spiral"
points_per_class = 20
[model]
width = [3, 8]
[loss]
kind = ["static", "dynamical"]
amplitude = [3, 10]
period = [10, 20]
[train]
epochs = 60
lr = [0.3, 1.0]
optimizer = ["sgd", "adam"]
momentum = [0.0, 0.9]
seeds = 3
log_every = 60
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("refinement")
    tiltcli.sweep(write_grid(path, GRID), results=path / "results")
    return path


def cell_of(row, keys):
    return tuple(None if row.get(k) != row.get(k) else row.get(k) for k in keys)


KEYS = ["model.width", "loss.kind", "train.optimizer", "train.momentum", "train.lr"]
KEYS += ["loss.amplitude", "loss.period"]


def expected(jobs, methods, keep):
    """Best cells by mean validation accuracy, per width and method; plain pandas."""
    found = {}
    for _, own in jobs.groupby(["model.width", *methods], dropna=False):
        means = own.groupby(KEYS, dropna=False, sort=True)["val_accuracy"].mean().round(9)
        for cell in means.sort_values(ascending=False, kind="stable").index[:keep]:
            found[tuple(None if value != value else value for value in cell)] = True
    return set(found)


def cells(sweep):
    return {tuple(job.get(key) for key in KEYS) for job in sweep.jobs}


def test_refine_keeps_each_methods_best(folder):
    methods = ["loss.kind", "train.optimizer"]
    results = folder / "results"
    text = refinement_grid("grid", results=results, methods=methods, keep=2, seeds=7, folder=folder)
    grid = parse_sweep(text, name="x", folder=folder)
    jobs = tiltcli.read("grid", results).jobs
    assert cells(grid) == expected(jobs, methods, 2)
    assert grid.name == "grid"
    assert grid.methods == tuple(methods)
    assert {job["train.seed"] for job in grid.jobs} == set(range(7))
    # What is done stays done: the first three seeds are the run's own jobs.
    assert {job.id for job in grid.jobs if job["train.seed"] < 3} <= set(jobs["job"])


def test_confirmation_has_partners_and_fresh_draws(folder):
    results = folder / "results"
    text = confirmation_grid("grid", results=results, tuned=True, seeds=6, folder=folder)
    grid = parse_sweep(text, name="x", folder=folder)
    jobs = tiltcli.read("grid", results).jobs
    chosen = expected(jobs, ["loss.kind"], 1)
    partners = {
        (width, "static", *rest[:3], None, None)
        for width, kind, *rest in chosen
        if kind == "dynamical"
    }
    assert cells(grid) == chosen | partners
    pairs = {(job["train.seed"], job["data.seed"]) for job in grid.jobs}
    assert pairs == {(100 + i, 100 + 3 * i) for i in range(6)}
    assert grid.name == "grid-confirm"


def test_confirmation_of_every_group(folder):
    """Not tuned: the best tilted cell at each value of what static jobs have too; adam as well."""
    results = folder / "results"
    grid = parse_sweep(
        confirmation_grid("grid", results=results, seeds=2, folder=folder), name="x", folder=folder
    )
    jobs = tiltcli.read("grid", results).jobs
    tilted = jobs[jobs["loss.kind"].eq("dynamical")]
    groups = ["model.width", "train.optimizer", "train.momentum", "train.lr"]
    wanted = expected(tilted, groups[1:], 1)
    assert len(wanted) == 2 * 3 * 2
    assert cells(grid) == wanted | {(w, "static", *rest[:3], None, None) for w, _, *rest in wanted}
    assert {job["train.seed"] for job in grid.jobs} == {100, 101}
    assert {job["data.seed"] for job in grid.jobs} == {0}


def test_draws_zipped_with_seeds_go_on(tmp_path):
    zipped = GRID.replace("points_per_class", "seed = [0, 3, 6]\npoints_per_class")
    zipped = zipped.replace("width = [3, 8]", "width = 3").replace('["sgd", "adam"]', '"sgd"')
    zipped += '[sweep]\nzip = [["data.seed", "train.seeds"]]\n'
    tiltcli.sweep(write_grid(tmp_path, zipped), results=tmp_path / "results")
    text = refinement_grid("grid", results=tmp_path / "results", keep=1, seeds=5, folder=tmp_path)
    grid = parse_sweep(text, name="x", folder=tmp_path)
    pairs = {(job["train.seed"], job["data.seed"]) for job in grid.jobs}
    assert pairs == {(0, 0), (1, 3), (2, 6), (3, 9), (4, 12)}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"keep": 99}, ["allowed: 1 to"]),
        ({"keep": 0, "seeds": 3}, ["allowed: 1 to", "allowed: 4 to 100,000"]),
        ({"keep": 1, "seeds": 10**400}, ["allowed: 4 to 100,000"]),
        ({"methods": ["loss.shape", "loss.base"]}, ["loss.shape does not vary", "loss.base does"]),
        ({"metric": "tset_accuracy"}, ["no tset_accuracy"]),
    ],
)
def test_what_cannot_be(folder, options, said):
    with pytest.raises(UserError) as error:
        refinement_grid("grid", results=folder / "results", **options)
    faults = [str(fault) for fault in error.value.faults]
    assert len(faults) == len(said)
    for fault, words in zip(faults, said, strict=True):
        assert words in fault
    with pytest.raises(UserError, match="allowed: 1 to 100,000"):
        confirmation_grid("grid", results=folder / "results", seeds=10**400)


def test_commands_write_what_sweep_takes(folder, monkeypatch):
    monkeypatch.chdir(folder)
    runner = CliRunner()
    for words in (
        ["refine", "grid", "--keep", "1", "--seeds", "4", "-o", "out/next.toml"],
        ["confirm", "grid", "--tune", "--methods", "loss.kind,train.optimizer", "-o", "c.toml"],
    ):
        Path("out").mkdir(exist_ok=True)
        shown = runner.invoke(app, words)
        assert shown.exit_code == 0, shown.output
        again = runner.invoke(app, ["sweep", words[-1], "--dry-run", "--set", "name=other"])
        assert again.exit_code == 0, again.output
    wrong = runner.invoke(app, ["confirm", "grid", "--methods", "loss.kind"])
    assert "--tune" in str(wrong.exception)


def test_the_report_opens_with_the_methods(folder, monkeypatch):
    """Numbers of the matrix: plain pandas, of the cells that validation likes best."""
    monkeypatch.chdir(folder)
    methods = ["loss.kind", "train.optimizer"]
    text = confirmation_grid("grid", tuned=True, methods=methods, seeds=5, folder=".")
    tiltcli.sweep(write_grid(folder, text, "confirmation"))
    runner = CliRunner()
    for name in ("r.md", "r.html"):
        shown = runner.invoke(app, ["report", "grid-confirm", "-o", name])
        assert shown.exit_code == 0, shown.output
    page = Path("r.md").read_text()
    assert page.index("Methods of grid-confirm") < page.index("## Verdicts")
    assert "At width 3: tilting" in page
    rows = [line for line in page.splitlines() if line.startswith("| static, optimizer adam | 0")]
    jobs = tiltcli.read("grid-confirm").jobs
    own = jobs[jobs["loss.kind"].eq("static") & jobs["train.optimizer"].eq("adam")]
    for column, width in enumerate((3, 8)):
        cells = own[own["model.width"].eq(width)]
        rate = cells.groupby("train.lr")["val_accuracy"].mean().idxmax()
        best = cells[cells["train.lr"].eq(rate)]
        mean = best["test_accuracy"].mean()
        half = 2.7764451051977987 * best["test_accuracy"].sem()  # t(0.975, 4)
        cell = rows[0].split("|")[2 + column].strip()
        assert cell.startswith(f"{mean:.4f} ± {half:.4f} (5)")
    assert "Methods of grid-confirm" in Path("r.html").read_text()
    assert pd.Series(jobs["data.seed"]).nunique() == 5
