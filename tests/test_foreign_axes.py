"""Runs with axes that nobody shipped, through every view: each number is one cell's.

The oracle reads the Parquet files by itself; nothing that a view shows is taken on trust.
"""

import json

import pandas as pd
import pytest

import cell_oracle as oracle
import checks
import foreign
import tiltcli
import views
from checks import VAL, VIEWS, ends_well
from views import ask


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return foreign.Runs(tmp_path_factory.mktemp("foreign"))


# Other forms of what has been looked at, and figures of one training: they need fewer runs.
FORMS = ("compare-csv", "compare-markdown", "compare-table", "plot-gamma", "plot-trace")
FEW = ("rates", "batches", "optimisers", "draws", "half", "lost")
LOOKS = [
    (name, view) for name in foreign.GRIDS for view in VIEWS if view not in FORMS or name in FEW
]


@pytest.mark.parametrize(("name", "view"), LOOKS)
def test_every_number_is_one_cells(runs, tmp_path, name, view):
    VIEWS[view](runs[name], tmp_path)


WHERE = [
    # run, condition, whether a cell meets it
    ("rates", "train.lr == 0.310723", lambda c: 0.3 < c["train.lr"] < 0.4),
    ("rates", "train.lr > 0.5", lambda c: c["train.lr"] > 0.5),
    ("rates", "train.lr in [0.1, 3]", lambda c: c["train.lr"] in (0.1, 3)),
    ("rates", "loss.amplitude == 10", lambda c: c["loss.amplitude"] in (None, 10)),
    ("batches", "train.batch_size == 16", lambda c: c["train.batch_size"] == 16),
    ("batches", "train.batch_size != 16", lambda c: c["train.batch_size"] is None),
    ("batches", "train.batch_size == full", lambda c: c["train.batch_size"] is None),
    ("batches", "train.batch_size in [16, full]", lambda c: True),
    ("batches", "train.batch_size > 8", lambda c: c["train.batch_size"] == 16),
    ("optimisers", "train.optimizer == adam", lambda c: c["train.optimizer"] == "adam"),
    ("optimisers", "train.momentum == 0.9", lambda c: c["train.momentum"] == 0.9),
    ("shapes", "loss.shape == sine", lambda c: c["loss.shape"] in (None, "sine")),
    ("bases", "loss.base == mse", lambda c: c["loss.base"] == "mse"),
]


@pytest.mark.parametrize(("name", "condition", "meets"), WHERE, ids=[row[1] for row in WHERE])
def test_where_keeps_what_it_says(runs, name, condition, meets):
    run = runs[name]
    kept = [cell for cell in run.cells if meets(cell.settings)]
    static, tilted = ([c for c in kept if c.static is kind] for kind in (True, False))
    answer = ends_well(checks.compare(run, "--where", condition))
    rows = views.rows_of(answer, "json", ())
    checks.check_rows(name, rows, oracle.pairs(static, tilted), run.cells, answer)


@pytest.mark.parametrize(
    ("condition", "there"),
    [
        ("train.batch_size > 16", "16, full"),
        ("train.lr == 7", "0.5"),
        ("loss.amplitude == 4", "3, 10"),
    ],
)
def test_where_that_keeps_nothing_is_said(runs, condition, there):
    answer = ends_well(checks.compare(runs["batches"], "--where", condition), 2)
    assert f"{condition.split()[0]} there: {there}\n" in answer.err


SIDES = [
    # run, what selects side a and side b, as settings
    ("rates", "model.width", 4, 8),
    ("rates", "loss.amplitude", 3, 10),
    ("one-tilt", "train.lr", 0.3, 1.0),
    ("batches", "train.batch_size", "full", 16),
    ("bases", "loss.base", "cross_entropy", "mse"),
    ("shapes", "loss.shape", "triangle", "sine"),
    ("one-width", "train.weight_decay", 0.0, 0.01),
    ("samples", "data.noise", 0.1, 0.2),
    ("lengths", "train.epochs", 40, 60),
]


@pytest.mark.parametrize(("name", "setting", "a", "b"), SIDES, ids=[row[1] for row in SIDES])
def test_any_setting_can_be_what_is_compared(runs, name, setting, a, b):
    run = runs[name]
    answer = ask(
        *("compare", f"{name}@{setting}={a}", f"{name}@{setting}={b}"),
        *("--results", run.results, "--format", "json"),
    )
    ends_well(answer)
    picked = [
        [c for c in run.cells if c.settings[setting] == oracle.canonical(setting, value)]
        for value in (a, b)
    ]
    rows = views.rows_of(answer, "json", ())
    checks.check_rows(name, rows, oracle.pairs(*picked), run.cells, answer)


def test_two_runs_that_differ_in_the_shape(runs):
    text = foreign.text_of("one-tilt", **{"loss.shape": '"sine"'})
    other = runs.train("sines", text.replace('"one-tilt"', '"sines"'))
    run = runs["one-tilt"]
    answer = ends_well(
        ask("compare", "one-tilt", "sines", "--results", run.results, "--format", "json")
    )
    due = [pair for pair in oracle.pairs(run.cells, other.cells) if not pair.b.static]
    assert len(due) == 4
    # The static jobs of both are the same; they may be shown, if it is said which they are.
    rows = [r for r in views.rows_of(answer, "json", ()) if r.get("loss.kind") != "static"]
    checks.check_rows("sines", rows, due, run.cells, answer)


@pytest.mark.parametrize("b", ["one-tilt@loss.kind=dynamical", "one-tilt"])
def test_jobs_compared_with_themselves_are_said(runs, b):
    run = runs["one-tilt"]
    answer = ask("compare", "one-tilt", b, "--results", run.results)
    said = answer.out + answer.err
    assert any(word in said for word in ("themselves", "same job", "identical")), answer


def test_one_cell_for_each_width_is_one_row(runs):
    """Amplitudes and periods on both sides: the best of them is kept of each."""
    run = runs["one-width"]
    answer = ask(
        *("compare", "one-width@train.weight_decay=0,loss.kind=dynamical"),
        *("one-width@train.weight_decay=0.01,loss.kind=dynamical", "--best", VAL),
        *("--results", run.results, "--format", "json"),
    )
    rows = views.rows_of(ends_well(answer), "json", ())
    assert len(rows) == len(oracle.METRICS), answer


@pytest.mark.parametrize("view", ["compare", "confirm", "page"])
def test_ties_go_to_the_first_in_the_grid(runs, tmp_path, view):
    run = runs["tied"]
    due = [oracle.first_in_grid(tied, run.grid) for tied in run.chosen()]
    assert {cell.settings["loss.amplitude"] for cell in due} == {10}
    place = ("--results", run.results)
    if view == "compare":
        rows = views.rows_of(ends_well(checks.compare(run, "--best", VAL)), "json", ())
        found = [row["loss.amplitude"] for row in rows]
    elif view == "confirm":
        target = tmp_path / "confirm.toml"
        ends_well(ask("confirm", "tied", "-o", target, *place))
        ends_well(ask("sweep", target, "--results", tmp_path, "--set", "train.epochs=1", "-q"))
        found = oracle.jobs(tmp_path / "tied-confirm")["loss.amplitude"].dropna().unique().tolist()
    else:
        target = tmp_path / "report.html"
        ends_well(ask("report", "tied", "-o", target, *place))
        text = target.read_text(encoding="utf-8")
        rows = views.page_cells(text, VAL)
        found = [rows[one["best"]]["amplitude"] for one in views.page_data(text)["widths"]]
    assert set(found) == {10}, found


@pytest.mark.parametrize("name", ["rates", "one-amplitude", "batches"])
def test_report_knows_the_confirmation_of_a_run(runs, tmp_path, name):
    run = runs[name]
    grid, target = tmp_path / "confirm.toml", tmp_path / "report.md"
    place = ("--results", run.results)
    ends_well(ask("confirm", name, "-o", grid, "--seeds", "5", *place))
    ends_well(ask("sweep", grid, "-q", *place))
    answer = ends_well(ask("report", name, f"{name}-confirm", "-o", target, *place))
    text = target.read_text(encoding="utf-8")
    assert "not those that validation chooses" not in text
    confirmed = foreign.Run(f"{name}-confirm", grid, run.results)
    tables = views.comparisons(text, oracle.settings_of(run.jobs))
    rows = [row for table in tables[-len(oracle.METRICS) :] for row in table]
    due = oracle.pairs(confirmed.static, confirmed.tilted)
    checks.check_rows(confirmed.name, rows, due, confirmed.cells, answer, 6e-5)


@pytest.mark.parametrize("name", ["rates", "optimisers", "lost"])
def test_python_says_the_same(runs, name):
    run = runs[name]
    held = tiltcli.compare(*checks.sides(run), results=run.results)
    answer = ends_well(checks.compare(run))
    shown = pd.DataFrame(json.loads(answer.out)["rows"])
    own = held.rows[shown.columns].reset_index(drop=True)
    for name in ("metric", "n", "mean_a", "mean_b", "difference", "low", "high", "p"):
        left = own[name].astype(object).where(own[name].notna(), None).tolist()
        assert left == shown[name].astype(object).where(shown[name].notna(), None).tolist()


def test_the_batch_size_is_a_whole_number_or_null(runs):
    column = oracle.table(runs["batches"].folder, "jobs")["train.batch_size"]
    assert not column.map(lambda value: isinstance(value, str)).any(), column.unique()
    assert set(column.dropna()) == {16}
    assert column.isna().any()


def test_the_full_batch_is_called_full(runs, tmp_path):
    run, place = runs["batches"], ("--results", runs["batches"].results)
    answer = ends_well(ask("compare", *checks.sides(run), *place))
    shown = [line.split()[:2] for line in answer.out.splitlines()]
    assert {words[1] for words in shown if words[:1] in (["4"], ["8"])} >= {"16", "full"}, answer
    target = tmp_path / "confirm.toml"
    ends_well(ask("confirm", "batches", "--tune", "--by", "train.batch_size", "-o", target, *place))
    comments = [line for line in target.read_text().splitlines() if line.startswith("#")]
    assert any("batch_size full" in line for line in comments), comments
    assert not any("nan" in line for line in comments), comments
