"""The page of a run that was probed: curvature, instabilities, a valley; numbers and pictures."""

import base64
import dataclasses
import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

import tiltcli
from browser import chromium
from helpers import tilt, write_grid
from tiltcli.analysis.traces import jobs_of, trace_of
from tiltcli.analysis.valleys import valleys_of
from tiltcli.plots.curvature import seed_table
from tiltcli.reports import trainings as valley_part
from tiltcli.reports.loaded_runs import load_run
from tiltcli.reports.page_data import run_data
from tiltcli.reports.trainings import HEADER, _gammas, enlarged, listed, single, summed_up, watch
from tiltcli.schedule import Schedule

PROBED = """
[data]
kind = "spiral"
points_per_class = 20
[model]
width = 20
[loss]
kind = ["static", "dynamical"]
amplitude = 10
period = 150
[train]
epochs = 600
lr = 4.0
seeds = 2
dtype = "float64"
log_every = 1
[probe]
every = 25
quantities = ["hessian", "ntk"]
"""


def numbers(packed):
    return np.frombuffer(base64.b64decode(packed["f"]), "<f4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("probed")
    tiltcli.sweep(write_grid(path, PROBED, "probed"), results=path / "results")
    shown = tilt("report", "probed", "-o", "page.html", cwd=path)
    assert shown.returncode == 0, shown.stderr
    return path


@pytest.fixture(scope="module")
def run(folder):
    return load_run("probed", folder / "results")


@pytest.fixture(scope="module")
def watched(run):
    return watch(run)


def test_instabilities_are_those_of_the_command(folder, watched):
    shown = tilt("instabilities", "probed", "--format", "json", cwd=folder)
    rows = json.loads(shown.stdout)["instabilities"]
    table = listed(watched)
    at = {name: HEADER.index(name) for name in ("onset", "cascade", "λ_max / bound")}
    assert len(rows) == len(table) >= 2
    said = sorted((row[at["onset"]], row[at["cascade"]], row[at["λ_max / bound"]]) for row in table)
    expected = [
        (str(r["onset"]), r["cascade"], "–" if (s := r["hessian_share"]) is None else f"{s:.3f}")
        for r in rows
    ]
    assert said == sorted(expected)


def test_what_was_found_is_summed_up(run, watched):
    said = summed_up(run, watched)
    assert f"In 4 trainings whose every step was logged, {len(listed(watched))} instab" in said
    shares = [one.share for each in watched for one in each.found]
    assert f"in the median it stood at {np.nanmedian(shares):.3f} of its bound" in said
    assert "did not keep" in summed_up(run, [])


def test_an_enlarged_instability_holds_its_steps_and_is_shaded(watched):
    zooms = enlarged(watched)
    assert len(zooms) >= 2
    for zoom in zooms:
        (owner,) = [one for one in watched if zoom["about"].startswith(f"{one.setting}:")]
        metrics = owner.trace.metrics.set_index("step").loc[zoom["from"] : zoom["to"]]
        panels = {panel["id"]: panel["series"] for panel in zoom["panels"]}
        assert set(panels) == {"loss", "change", "hessian"}
        assert numbers(panels["loss"][0]["x"]).tolist() == metrics.index.tolist()
        change = metrics["dynamical_loss"].diff().iloc[1:]
        np.testing.assert_allclose(numbers(panels["change"][0]["y"]), change, rtol=1e-6)
        assert all(s["points"] for panel in panels.values() for s in panel if not s["dash"])
        onset, name = zoom["marks"][0]
        assert name == "onset"
        assert any(first == onset for first, _ in zoom["shaded"])
        edge = panels["hessian"][-1]
        assert edge["name"] == "2/η"
        assert numbers(edge["y"]).tolist() == [0.5, 0.5]


def test_curvature_of_a_cell_is_the_geometric_mean_of_its_seeds(run, watched):
    page = run_data(run, 1, watched)
    (block,) = page["probes"]
    assert block["epochs"][:3] == [0, 25, 50]
    ids = run.dynamical["job"].tolist()
    members = [trace_of(run.tables, job) for job in jobs_of(run.folder, ids)]
    cell = page["cells"]["static"].index(0)
    row = block["cells"].index(cell)
    for column in ("hessian_max", "hessian_max_static", "ntk_max"):
        steps, logs = seed_table(members, column)
        kept = np.isin(steps, block["epochs"])
        drawn = numbers(block["columns"][column]["mean"]).reshape(len(block["cells"]), -1)[row]
        np.testing.assert_allclose(drawn, np.exp(logs.mean(axis=1))[kept], rtol=1e-5)
    assert page["cells"]["bound"] == [0.5, 0.5]
    own = [one for one in watched if one.trace.job.id in ids]
    assert page["onsets"][str(cell)] == sorted(each.onset for one in own for each in one.found)


def test_the_valley_is_that_of_the_figure(run):
    one = single(run)
    page, said = valley_part.valley(run, one)
    assert "through pulse 2" in said
    engine = run.dynamical["engine"].iloc[0]
    found = valleys_of(one, engine, most=2, phases=valley_part.PHASES)
    inside = [cut for cut in found.trained if 0 <= cut.step - page["begin"] <= page["period"]]
    assert page["trained"]["steps"] == [cut.step for cut in inside]
    for name, part in (("width", "width"), ("floor", "depth")):
        values = [getattr(cut.valley, part) for cut in inside]
        np.testing.assert_allclose(numbers(page["trained"][name]), values, rtol=1e-6)
    middle = numbers(page["frozen"]["losses"][0])[len(numbers(page["alphas"])) // 2]
    assert middle == pytest.approx(found.frozen[0].losses[120], rel=1e-6)


def test_a_valley_that_takes_long_is_absent_and_said(run, monkeypatch):
    one = single(run)
    monkeypatch.setattr(valley_part, "MOST_WORK", 1.0)
    page, said = valley_part.valley(run, one)
    assert page is None
    assert "tiltcli plot valley probed" in said
    page, said = valley_part.valley(run, dataclasses.replace(one, schedule=None))
    assert page is None
    assert "a static training has none" in said


@pytest.mark.parametrize("width", [1280, 390])
def test_drawn_and_chosen(folder, width):
    with chromium(width, 844, phone=width < 600, dark=width < 600) as browser:
        browser.get((folder / "page.html").resolve().as_uri())
        for y in range(0, browser.execute_script("return document.body.scrollHeight"), 500):
            browser.execute_script(f"scrollTo(0, {y})")
            time.sleep(0.06)
        zooms = browser.find_element(By.CSS_SELECTOR, "[data-part=zooms]")
        before = zooms.text
        chooser = zooms.find_element(By.TAG_NAME, "select")
        assert chooser.accessible_name == "Instability"
        Select(chooser).select_by_index(1)
        assert zooms.text != before
        assert Select(chooser).first_selected_option.text in zooms.text
        for part in ("zooms", "valley", "explorer", "trace"):
            assert browser.find_elements(By.CSS_SELECTOR, f"[data-part={part}] .main-svg"), part
        drawn = browser.execute_script(
            "return [...document.querySelectorAll('[data-part=valley] .plot')][0].data.length"
        )
        assert drawn > 10
        overhang = browser.execute_script("return document.documentElement.scrollWidth")
        assert overhang <= width
        assert browser.get_log("browser") == []


def test_class_weights_are_drawn_as_they_are():
    """Between the points that are drawn, a straight line stays close to Γ."""
    for shape in ("triangle", "sine"):
        schedule = Schedule(3, 70.0, 5000, 1, 65_000, shape)
        panel = _gammas(SimpleNamespace(labels=()), schedule, 0, 70_000)
        every = np.arange(70_001)
        exact = schedule.gamma(every)
        for i, series in enumerate(panel["series"]):
            drawn = np.interp(every, numbers(series["x"]), numbers(series["y"]))
            assert np.abs(drawn - exact[:, i]).max() < 0.05
