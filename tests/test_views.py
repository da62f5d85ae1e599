"""Views of a run with axes that are not the shipped ones: each number is that of one cell."""

import itertools
import json
import re

import pandas as pd
import pytest

import tiltcli
from helpers import GRID, tilt, write_grid
from views import ask

RATES = GRID.replace("epochs = 200", "epochs = 60\nlr = [0.5, 1e30]").replace("[4, 8]", "4")
ALSO = """
[[also]]
loss.kind = "static"
train.lr = 0.1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("views")
    tiltcli.sweep(write_grid(path, RATES + ALSO, "rates"), results=path / "results")
    return path


@pytest.fixture(scope="module")
def means(folder):
    """Validation accuracy by cell: a diverged job has at most 1/3, that of guessing."""
    jobs = tiltcli.read("rates", folder / "results").jobs
    lost = jobs["outcome"] == "diverged"
    assert lost.sum() == 9
    score = jobs["val_accuracy"].where(~lost, jobs["val_accuracy"].clip(upper=1 / 3))
    keys = [jobs["train.lr"], jobs["loss.kind"], jobs["loss.amplitude"].fillna(0)]
    return pd.DataFrame({"mean": score.groupby(keys).mean(), "lost": lost.groupby(keys).sum()})


def shown(cell):
    lost = int(cell["lost"])
    return f"{cell['mean']:.3f}", f"(3, {lost} lost)" if lost else "(3)"


def test_runs_has_a_row_for_each_rate(folder, means):
    lines = tilt("runs", "rates", cwd=folder).stdout.splitlines()
    at = next(i for i, line in enumerate(lines) if line.split()[:2] == ["lr", "loss"])
    rows = [re.split(r" {2,}", line.strip()) for line in lines[at + 1 :]]
    assert [row[0] for row in rows[::2]] == ["0.1", rows[2][0], rows[4][0]]
    assert [row[0] for row in rows[1::2]] == ["0.5", "1e+30"]
    for row, key in ((rows[1], (0.5, "static", 0)), (rows[3], (1e30, "static", 0))):
        mean, count = shown(means.loc[key])
        assert f"{mean} ±" in row[-1]
        assert row[-1].endswith(count)
    tilted = means.xs("dynamical", level="loss.kind").loc[0.5]
    best = tilted["mean"].idxmax()
    assert rows[2][0] == f"A {best:g}, T 20"
    assert f"{tilted.loc[best, 'mean']:.3f} ±" in rows[2][-1]


def test_a_sweep_ends_with_a_row_for_each_rate(folder, means):
    said = tilt("sweep", "rates.toml", cwd=folder).stderr
    rows = {line.split()[0]: line for line in said.splitlines() if "±" in line and "(3" in line}
    assert set(rows) == {"0.1", "0.5", "1e+30"}
    for lr, line in rows.items():
        for number in means.loc[float(lr)].to_dict("index").values():
            mean, count = shown(number)
            if number["lost"] or lr == "0.1":  # both tilted cells are worth chance
                assert re.search(rf"{mean} ±\.\d+ {re.escape(count)}", line), line


def test_runs_gives_machines_the_table_of_cells(folder, means):
    page = json.loads(tilt("runs", "rates", "--format", "json", cwd=folder).stdout)
    cells = page["cells"]
    assert len(cells) == len(means) == 7
    for one in cells:
        settings = one["settings"]
        key = (
            settings["train.lr"],
            settings["loss.kind"],
            settings["loss.amplitude"] or 0,
        )
        found, number = means.loc[key], one["metrics"]["val_accuracy"]
        assert number["mean"] == pytest.approx(found["mean"])
        assert (number["n"], one["jobs"], one["diverged"]) == (3, 3, found["lost"])
        partner = cells[one["partner"]]
        assert partner["settings"]["train.lr"] == settings["train.lr"]
        assert partner["settings"]["loss.kind"] == "static"
        if not one["static"]:
            change = number["mean"] - partner["metrics"]["val_accuracy"]["mean"]
            assert number["change"] == pytest.approx(change)
            assert number["pairs"] == 3
        assert one["regime"] == "underparameterised"


@pytest.mark.parametrize("columns", ["80", "100", "140"])
def test_runs_fits_the_terminal(folder, columns):
    text = tilt("runs", "rates", cwd=folder, extra_env={"COLUMNS": columns}).stdout
    table = text[text.index("accuracy of static") :].splitlines()
    assert max(map(len, table)) <= int(columns)
    assert sum("±" in line for line in table[2:]) == 5


@pytest.mark.parametrize("kind", ["phase", "curves"])
def test_figures_keep_the_rates_apart(folder, kind, tmp_path):
    drawn = tilt("plot", kind, "rates", "-o", tmp_path / "x.svg", cwd=folder)
    assert drawn.returncode == 0, drawn.stderr
    where = ["--where", "train.lr == 0.5"]
    drawn = tilt("plot", kind, "rates", *where, "-o", tmp_path / "y.svg", cwd=folder)
    assert drawn.returncode == 0, drawn.stderr
    assert (tmp_path / "x.svg").read_bytes() != (tmp_path / "y.svg").read_bytes()


TILTS = GRID.replace("amplitude = [3, 10]", "amplitude = 3").replace("epochs = 200", "epochs = 60")
ONE_TILT = {
    "lr": TILTS + "lr = [0.3, 1.0]\n",
    "shape": TILTS.replace("period = [20]", 'period = [20]\nshape = ["triangle", "sine"]'),
}


@pytest.fixture(scope="module", params=ONE_TILT)
def one_tilt(request, tmp_path_factory):
    """One amplitude and period for each width, and another setting that varies."""
    path = tmp_path_factory.mktemp(request.param)
    tiltcli.sweep(write_grid(path, ONE_TILT[request.param], "own"), results=path / "results")
    return request.param, path


@pytest.mark.parametrize("suffix", ["md", "html"])
def test_a_report_of_one_tilt_and_another_axis(one_tilt, suffix):
    _, path = one_tilt
    written = tilt("report", "own", "-o", path / f"r.{suffix}", cwd=path)
    assert written.returncode == 0, written.stderr


def test_the_page_has_a_view_for_each_value_and_every_cell(one_tilt):
    setting, path = one_tilt
    assert tilt("report", "own", "-o", path / "p.html", cwd=path).returncode == 0
    text = (path / "p.html").read_text(encoding="utf-8")
    page = json.loads(re.search(r'<script type="application/json">(.*?)</script>', text, re.S)[1])
    values = ["0.3", "1"] if setting == "lr" else ["sine", "triangle"]
    assert page["views"] == [f"{setting} {value}" for value in values]
    jobs = tiltcli.read("own", path / "results").jobs
    keys = ["model.width", "train.lr", "loss.kind", "loss.shape"]
    assert len(page["cells"]["static"]) == jobs.groupby(keys, dropna=False).ngroups
    assert all(n == 3 for n in page["cells"]["stats"]["val_accuracy"]["n"])
    for one in page["widths"]:
        assert page["cells"]["view"][one["best"]] == one["view"]


CONTROLS = (
    GRID.replace("amplitude = [3, 10]", "amplitude = 3")
    .replace("period = [20]", 'period = 20\norder = ["cyclic", "random"]\nhalf_life = [0, 40]')
    .replace("epochs = 200", "epochs = 3")
    .replace("seeds = 3", "seeds = 1")
)


def test_a_report_of_too_many_panels_keeps_its_tables(tmp_path):
    text = CONTROLS + "lr = [0.1, 0.2, 0.3, 0.4]\n"
    tiltcli.sweep(write_grid(tmp_path, text, "own"), results=tmp_path / "results")
    written = tilt("report", "own", "-o", "r.md", cwd=tmp_path)
    assert written.returncode == 0, written.stderr
    report = (tmp_path / "r.md").read_text(encoding="utf-8")
    assert "No phase diagram here: phase would have 32 panels" in report
    assert "choose with --where" in report
    rows = [line for line in report.splitlines() if line.startswith(("| 4 |", "| 8 |"))]
    assert len(rows) == 3 * 2 * 4  # metrics, widths, rates


def test_class_weights_have_a_panel_for_each_schedule(tmp_path):
    tiltcli.sweep(write_grid(tmp_path, CONTROLS, "own"), results=tmp_path / "results")
    answer = ask(
        "plot", "gamma", "own", "-o", tmp_path / "g.svg", "--results", tmp_path / "results"
    )
    (figure,) = answer.figures
    assert [panel.get_title() for panel in figure.axes] == [
        "own: A = 3, T = 20, triangle; ΣΓ = 3",
        "A = 3, T = 20, triangle, half-life 40; ΣΓ = 3",
        "A = 3, T = 20, triangle, order random; ΣΓ = 3",
        "A = 3, T = 20, triangle, order random, half-life 40; ΣΓ = 3",
    ]
    for panel, (order, half_life) in zip(
        figure.axes, itertools.product(("cyclic", "random"), (0, 40)), strict=True
    ):
        for i, line in enumerate(panel.lines[:3]):
            weights = tiltcli.gamma(
                line.get_xdata(),
                num_classes=3,
                amplitude=3,
                period=20,
                order=order,
                half_life=half_life,
            )
            assert line.get_ydata() == pytest.approx(weights[:, i])
