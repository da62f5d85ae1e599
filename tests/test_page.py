"""The page in a real browser: it draws, answers, adapts, and no text of a run is ever code."""

import itertools
import json
import re
import time

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

import tiltcli
from browser import chromium
from helpers import GRID, tilt, tilt_process, write_grid
from tiltcli.reports.loaded_runs import CURVES, load_run
from tiltcli.reports.page_data import page_cells
from tiltcli.reports.page_series import curves
from tiltcli.reports.template import json_text
from tiltcli.statistics import mean_interval
from tiltcli.store.read import read

HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror='window.hacked=1'>"
NAME = "<img src=x onerror=window.hacked=1>&amp;"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs: a phase sweep with lost jobs under a hostile name, and its confirmation."""
    path = tmp_path_factory.mktemp("page")
    results = path / "results"
    tiltcli.sweep(write_grid(path, GRID.replace("[20]", "[20, 40]")), results=results)
    (results / "grid").rename(results / NAME)
    for part in sorted((results / NAME / "jobs").glob("*.parquet")):
        table = pq.read_table(part)
        rows = table.to_pylist()
        for row in rows:
            if row["loss.kind"] != "dynamical" or row["model.width"] != 4:
                continue
            if row["loss.amplitude"] == 10 and row["loss.period"] == 40:
                row |= {"outcome": "failed", "error": f"Traceback\n{HOSTILE}\nError: {HOSTILE}"}
                row |= {"train_accuracy": None, "val_accuracy": None, "test_accuracy": None}
            if row["loss.amplitude"] == 10 and row["loss.period"] == 20 and row["train.seed"] == 0:
                row |= {"outcome": "diverged", "error": "diverged at epoch 7"}
                row |= {"train_accuracy": None, "val_accuracy": None, "test_accuracy": None}
        pq.write_table(type(table).from_pylist(rows, schema=table.schema), part)
    one = GRID.replace("[3, 10]", "3").replace("seeds = 3", "seeds = [7, 8, 9]")
    tiltcli.sweep(write_grid(path, one, "judged"), results=results)
    single = GRID.replace('["static", "dynamical"]', '"dynamical"').replace("[3, 10]", "3")
    single = single.replace("[4, 8]", "4").replace("seeds = 3", "seeds = 1")
    single = single.replace("log_every = 50", "log_every = 1")
    tiltcli.sweep(write_grid(path, single, "single"), results=results)
    shown = tilt("report", NAME, "judged", "single", cwd=path)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.strip() == "results/report.html"
    return path


@pytest.fixture(scope="module")
def page(folder):
    return folder / "results" / "report.html"


@pytest.fixture(scope="module")
def browser(page):
    with chromium() as one:
        one.get(page.resolve().as_uri())
        WebDriverWait(one, 60).until(lambda _: one.execute_script("return !!window.Plotly"))
        yield one


def settle(browser):
    """Wait until what is asked for is drawn."""
    browser.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => setTimeout(done, 250))"
    )


def see_everything(browser):
    browser.execute_script("scrollTo(0, 0)")
    for y in range(0, browser.execute_script("return document.body.scrollHeight"), 500):
        browser.execute_script(f"scrollTo(0, {y})")
        time.sleep(0.08)
    settle(browser)


def test_same_runs_same_bytes(folder, page):
    words = ("report", NAME, "judged", "single", "-o", "again.html")
    assert tilt_process(*words, cwd=folder).returncode == 0
    assert (folder / "again.html").read_bytes() == page.read_bytes()


def test_nothing_is_fetched_and_nothing_escapes(page):
    text = page.read_text(encoding="utf-8")
    own = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)  # without our script
    assert text.count("<script>") == 1
    assert "default-src 'none'" in own
    assert not re.search(r"""(src|href)=["']?(https?:)?//(?!arxiv\.org)""", own)
    assert "<img" not in own
    assert "hacked=1</script>" not in own
    assert "&lt;img src=x onerror=window.hacked=1&gt;&amp;amp;" in own


def test_the_page_is_small(page):
    """Its figures can be sent by mail: the library is two thirds of it."""
    assert page.stat().st_size < 1_000_000


def test_zoom_is_an_axis_of_its_own(browser):
    """What is dragged over is what is shown; a double click shows everything again."""
    box = browser.find_element(By.CSS_SELECTOR, "#run-0 [data-part=explorer] .plot")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", box)
    settle(browser)
    shown = "return arguments[0].layout.xaxis.range"
    low, high = browser.execute_script(shown, box)
    area = box.find_element(By.CSS_SELECTOR, ".nsewdrag")
    drag = ActionChains(browser).move_to_element(area).click_and_hold()
    drag.move_by_offset(area.size["width"] // 4, 0).pause(0.1).release().perform()
    settle(browser)
    left, right = browser.execute_script(shown, box)
    assert (left - low) / (high - low) == pytest.approx(0.5, abs=0.05)
    assert (right - low) / (high - low) == pytest.approx(0.75, abs=0.05)
    ActionChains(browser).double_click(area).perform()
    settle(browser)
    assert browser.execute_script(shown, box) == pytest.approx([low, high])


def test_all_axes_at_once_with_what_goes_with_each(browser):
    host = browser.find_element(By.CSS_SELECTOR, "#run-0 [data-part=parallel]")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", host)
    settle(browser)
    box = host.find_element(By.CSS_SELECTOR, ".plot")
    drawn = browser.execute_script("return arguments[0].layout.annotations.map(a => a.text)", box)
    for axis in ("width", "loss", "amplitude", "period"):
        (title,) = [text for text in drawn if text.startswith(f"{axis}<br>")]
        assert re.fullmatch(rf"{axis}<br>\d+% \(\d+% … \d+%\)", title)
    lines = "return arguments[0].data.slice(0, 8).flatMap(t => t.y).filter(y => y === null).length"
    assert browser.execute_script(lines, box) == 9  # cells that have a mean
    browser.execute_script("arguments[0].open = true", host.find_element(By.TAG_NAME, "details"))
    settle(browser)
    assert len(host.find_elements(By.CSS_SELECTOR, "tbody tr")) == 4


def test_json_cannot_end_its_element():
    hostile = {"a": [HOSTILE, "\u2028", "<!--", "é"]}
    written = json_text(hostile)
    assert not set("<>&\u2028") & set(written)
    assert json.loads(written) == hostile
    with pytest.raises(ValueError, match="JSON"):
        json_text(float("nan"))


def test_drawn_without_a_complaint(browser):
    see_everything(browser)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return window.hacked") is None
    assert browser.title.endswith(f"{NAME}, judged, single")
    drawn = browser.find_elements(By.CSS_SELECTOR, ".plot .main-svg")
    boxes = browser.find_elements(By.CSS_SELECTOR, ".plot")
    assert len(drawn) >= len(boxes) > 8


def test_hover_says_mean_interval_and_n(browser, folder):
    box = browser.find_element(By.CSS_SELECTOR, "[data-part=phase] .plot")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", box)
    settle(browser)
    area = box.find_element(By.CSS_SELECTOR, ".nsewdrag")
    width, height = area.size["width"], area.size["height"]
    # The lowest and leftmost cell: amplitude 3, period 20.
    move = ActionChains(browser).move_to_element_with_offset(area, -width // 4, height // 4)
    move.move_by_offset(2, 2).pause(0.5).perform()
    said = box.find_element(By.CSS_SELECTOR, ".hovertext").text
    jobs = tiltcli.read(NAME, folder / "results").jobs
    cell = jobs[(jobs["loss.amplitude"] == 3) & (jobs["loss.period"] == 20)]
    found = mean_interval(cell[cell["model.width"] == 4]["val_accuracy"])
    assert f"{found.mean:.4f}" in said
    assert f"{found.low:.4f} … {found.high:.4f}" in said
    assert "n = 3 jobs" in said
    assert "0 diverged, 0 failed of 3" in said


def test_a_click_shows_the_cell(browser):
    section = browser.find_element(By.ID, "run-0")
    box = section.find_elements(By.CSS_SELECTOR, "[data-part=phase] .plot")[1]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", box)
    settle(browser)
    area = box.find_element(By.CSS_SELECTOR, ".nsewdrag")
    width, height = area.size["width"], area.size["height"]
    # The upper right cell of width 8: amplitude 10, period 40.
    move = ActionChains(browser).move_to_element_with_offset(area, width // 5, -height // 4)
    move.pause(0.2).click().perform()
    settle(browser)
    explorer = section.find_element(By.CSS_SELECTOR, "[data-part=explorer]")
    assert "Width 8, amplitude 10, period 40: 3 jobs" in explorer.text
    plot = explorer.find_element(By.CSS_SELECTOR, ".plot")
    assert "beside static" in plot.get_attribute("aria-label")
    names = browser.execute_script("return arguments[0].data.map(t => t.name)", plot)
    assert {"static", "dynamical"} <= set(names)


def test_cells_are_chosen_by_keyboard_and_lost_jobs_are_said(browser):
    explorer = browser.find_element(By.CSS_SELECTOR, "#run-0 [data-part=explorer]")
    selects = explorer.find_elements(By.TAG_NAME, "select")
    assert all(s.accessible_name for s in selects)
    Select(selects[0]).select_by_visible_text("4")
    settle(browser)
    Select(explorer.find_elements(By.TAG_NAME, "select")[1]).select_by_visible_text("10")
    Select(explorer.find_elements(By.TAG_NAME, "select")[2]).select_by_visible_text("20")
    assert "3 jobs, of which 1 lost (not in its curves)" in explorer.text
    focused = browser.switch_to.active_element
    assert focused.tag_name == "select"
    assert browser.get_log("browser") == []


def test_jobs_are_filtered_sorted_and_their_errors_shown(browser):
    host = browser.find_element(By.CSS_SELECTOR, "#run-0 [data-part=jobs]")
    status = host.find_element(By.CSS_SELECTOR, "[role=status]")
    assert status.text == "30 rows found."
    Select(host.find_element(By.TAG_NAME, "select")).select_by_value("failed")
    assert status.text == "3 rows found."
    error = host.find_element(By.CSS_SELECTOR, "tbody details")
    error.find_element(By.TAG_NAME, "summary").click()
    assert HOSTILE in error.find_element(By.TAG_NAME, "pre").text
    assert browser.execute_script("return window.hacked") is None
    Select(host.find_element(By.TAG_NAME, "select")).select_by_value("")
    words = host.find_element(By.CSS_SELECTOR, "input[type=search]")
    words.send_keys("diverged epoch 7")
    assert status.text == "1 row found."
    words.send_keys(Keys.CONTROL, "a")
    words.send_keys(Keys.DELETE)
    header = host.find_element(By.XPATH, ".//th/button[text()='val accuracy']")
    browser.execute_script("arguments[0].click()", header)
    column = [h.text.split("\n")[0].strip(" ▲▼") for h in host.find_elements(By.TAG_NAME, "th")]
    at = column.index("val accuracy") + 1
    values = [
        cell.text
        for cell in host.find_elements(By.CSS_SELECTOR, f"tbody tr > :nth-child({at})")
        if cell.text != "–"
    ]
    assert [float(v) for v in values] == sorted(map(float, values))
    assert len(values) == 26


def test_theme_is_toggled_and_figures_follow(browser):
    def paper():
        return browser.execute_script("return getComputedStyle(document.body).backgroundColor")

    def axis():
        # Figures are drawn, and drawn anew in other colours, when they are in sight.
        return browser.execute_script(
            "const figure = document.querySelector('.plot'); figure.scrollIntoView(); "
            "return figure.querySelector('.xtick text')?.style.fill"
        )

    wait = WebDriverWait(browser, 60)
    wait.until(lambda _: axis())
    button = browser.find_element(By.CSS_SELECTOR, ".theme")
    assert button.accessible_name == "Dark colours"
    before = paper()
    button.click()
    wait.until(lambda _: paper() != before)
    assert button.text == "Light colours"
    wait.until(lambda _: axis() == "rgb(232, 235, 239)")
    button.click()
    wait.until(lambda _: paper() == before)


def test_headings_are_in_order_and_controls_have_names(browser):
    levels = browser.execute_script(
        "return [...document.querySelectorAll('h1,h2,h3,h4,h5')].map(h => +h.tagName[1])"
    )
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert browser.execute_script("return document.documentElement.lang") == "en"
    for control in browser.find_elements(By.CSS_SELECTOR, "button, select, input"):
        if control.is_displayed():
            assert control.accessible_name, control.get_attribute("outerHTML")
    unscoped = browser.find_elements(By.CSS_SELECTOR, "th:not([scope])")
    unlabelled = browser.find_elements(By.CSS_SELECTOR, ".plot:not([aria-label])")
    assert not unscoped
    assert not unlabelled


def test_figures_have_their_numbers(browser):
    details = browser.find_element(By.CSS_SELECTOR, "#run-1 [data-part=widths] details")
    browser.execute_script("arguments[0].open = true", details)
    settle(browser)
    rows = details.find_elements(By.CSS_SELECTOR, "tbody tr")
    assert len(rows) == 4  # two widths, training and test
    details.find_element(By.CSS_SELECTOR, "[role=region][tabindex='0']")


def test_prints_with_every_figure(browser):
    browser.execute_cdp_cmd("Page.printToPDF", {})
    assert browser.get_log("browser") == []
    undrawn = browser.execute_script(
        "return [...document.querySelectorAll('.plot')].filter(p => !p.querySelector('svg')).length"
    )
    assert undrawn == 0
    # Narrower than on the screen, panels stand one below the other: the room must be theirs.
    crowded = browser.execute_script(
        "dispatchEvent(new Event('beforeprint'));"
        "const tall = [...document.querySelectorAll('.plot')].filter(p =>"
        " parseFloat(p.style.height) != +p.querySelector('.main-svg').getAttribute('height'));"
        "dispatchEvent(new Event('afterprint')); return tall.length"
    )
    assert crowded == 0


@pytest.mark.parametrize("dark", [False, True])
def test_phone(page, dark):
    with chromium(390, 844, phone=True, dark=dark) as phone:
        phone.get(page.resolve().as_uri())
        WebDriverWait(phone, 60).until(lambda _: phone.execute_script("return !!window.Plotly"))
        see_everything(phone)
        assert phone.execute_script("return document.documentElement.scrollWidth") == 390
        wide = phone.execute_script(
            "return [...document.querySelectorAll('.plot')].filter(p => p.scrollWidth > 391).length"
        )
        assert wide == 0
        paper = phone.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(20, 24, 29)" if dark else "rgb(255, 255, 255)")
        assert phone.get_log("browser") == []


def test_cells_are_the_statistics_of_their_jobs(folder):
    run = load_run(NAME, folder / "results")
    page = page_cells(run.tables.jobs, run.metrics)
    assert page.views == ("",)
    for cell, row in page.rows.iterrows():
        own = run.tables.jobs[page.cells.of_job.to_numpy() == cell]
        done = own[own["outcome"] != "failed"].copy()
        lost = done["outcome"] == "diverged"
        done.loc[lost, "val_accuracy"] = done.loc[lost, "val_accuracy"].clip(upper=1 / 3)
        found = mean_interval(done["val_accuracy"])
        expected = [found.mean, found.low, found.high, found.n]
        got = [row[f"val_accuracy:{name}"] for name in ("mean", "low", "high", "n")]
        np.testing.assert_allclose(np.array(got, float), expected)
        assert row["jobs"] == 3
        if row["static"]:
            continue
        static = run.static[run.static["model.width"] == row["model.width"]].set_index("train.seed")
        pairs = done.set_index("train.seed")["val_accuracy"] - static["val_accuracy"]
        change = mean_interval(pairs)
        assert row["val_accuracy:pairs"] == change.n
        if change.n:
            assert row["val_accuracy:change"] == pytest.approx(change.mean)
        if change.n > 1:
            assert row["val_accuracy:change_low"] == pytest.approx(change.low)
    first, _ = page.widths("val_accuracy")
    assert (first["width"], first["regime"]) == (4, "underparameterised")
    best = page.rows.loc[first["best"]]
    assert best["loss.amplitude"] == 3  # the cells at amplitude 10 lost jobs


def test_curves_alone_are_the_same_rows_without_the_other_columns(folder):
    path = folder / "results" / "judged"
    whole, lean = tiltcli.read(path).metrics, read(path, metrics=CURVES).metrics
    assert set(lean) == {"job", "epoch", *CURVES}
    lean = lean.astype({"job": str}).sort_values(["job", "epoch"], ignore_index=True)
    pd.testing.assert_frame_equal(lean, whole[list(lean)].astype({"job": str}))


def test_curves_keep_what_there_is_room_for(folder):
    run = load_run(NAME, folder / "results")
    page = page_cells(run.tables.jobs, run.metrics)
    columns = {"train_accuracy": True, "train_loss": False}
    jobs, metrics = run.tables.jobs, run.tables.metrics
    (block,) = curves(jobs, metrics, columns, page, [], 1e6)
    assert block["epochs"] == [0, 50, 100, 150, 200]
    assert block["cells"] == list(page.rows.index)
    (small,) = curves(jobs, metrics, columns, page, [5, 9], 2 * 12 * 24)
    assert small["cells"] == [5, 9]
    assert small["epochs"][0] == 0
    assert small["epochs"][-1] == 200
