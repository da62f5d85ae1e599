"""What a sweep's display is told, and what it makes of it."""

import io
import itertools
import threading
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from tiltcli.cli.live import Screen
from tiltcli.cli.standings import standings
from tiltcli.execution.progress import Ended, Pace, Progress, clock
from tiltcli.grid import Job
from tiltcli.grid.jobs import varying_settings

NUMBER = itertools.count()


def row(kind, value, amplitude=None, period=None, outcome="completed", width=10, seed=0, **more):
    return {
        "job": f"job{next(NUMBER)}",
        "seconds": 1.0,
        "outcome": outcome,
        "data.classes": 4,
        "model.width": width,
        "loss.kind": kind,
        "loss.amplitude": amplitude,
        "loss.period": period,
        "train.seed": seed,
        "val_accuracy": value,
        "train_accuracy": 0.9,
        **{key.replace("__", "."): setting for key, setting in more.items()},
    }


def ended(rows, settings=()):
    progress = Progress(total=20, before=1, results=Ended(settings))
    for one in rows:
        progress.end(one)
    return progress


def test_standings_are_means_with_the_best_whole_cell():
    progress = ended(
        [
            row("static", 0.4),
            row("static", 0.6, seed=1),
            row("dynamical", 0.6, 3.0, 10),
            row("dynamical", 0.8, 3.0, 10, seed=1),
            row("dynamical", 0.7, 3.0, 10, seed=2),
            row("dynamical", 0.1, 10.0, 10),
            row("dynamical", 0.99, 30.0, 10),  # one seed of three: not yet
            row("dynamical", 0.95, 70.0, 10),
            row("dynamical", 0.97, 70.0, 10, seed=1),
            row("dynamical", 0.9, 70.0, 10, "diverged", seed=2),  # counts as chance, 1/4
            row("dynamical", 0.5, 3.0, 10, width=30),
        ]
    )
    assert progress.done == 12
    assert progress.ended == {"completed": 10, "diverged": 1}
    found = progress.results.cells(now=True)
    half = f"{4.30265 * 0.1 / np.sqrt(3):.3f}".lstrip("0")
    lines = standings(found, ripe=True)
    assert lines[0] == "validation accuracy: mean ± 95% interval (seeds)"
    assert [line.split() for line in lines[1:]] == [
        *(["width", "static", "best", "of", "1", "to", "4", "cells", "cell"],),
        ["10", "0.500", "±1.271", "(2)", "0.700", f"±{half}", "(3)", "A", "3,", "T", "10"],
        ["30", "–", "0.500", "(1)", "A", "3,", "T", "10"],
    ]
    # At the end the one seed counts, and no cell that lost a job comes before a whole one.
    assert "0.990 (1)" in standings(found)[2]


def test_one_diverging_rate_takes_no_row_from_another():
    rows = []
    for seed, lr in itertools.product(range(3), (0.1, 1e30)):
        lost = {"outcome": "diverged"} if lr > 1 else {}
        rows.append(row("static", 0.5 + 0.1 * seed, seed=seed, train__lr=lr))
        rows.append(row("dynamical", 0.6 + 0.1 * seed, 3.0, 10, seed=seed, train__lr=lr, **lost))
    lines = standings(ended(rows, ["train.lr"]).results.cells(now=True))
    assert [line.split()[0] for line in lines[1:]] == ["lr", "0.1", "1e+30"]
    assert "0.600 ±.248 (3)  0.700 ±.248 (3)" in " ".join(lines[2].split()).replace(") ", ")  ")
    assert "0.250 ±.000 (3, 3 lost)" in lines[3]


def test_without_validation_data_the_means_are_of_training():
    rows = [row("static", None), row("dynamical", float("nan"), 3.0, 10)]
    lines = standings(ended(rows).results.cells(now=True))
    assert lines[0].startswith("training accuracy")
    assert lines[2].split()[1] == "0.900"


def test_a_job_that_is_run_again_counts_once():
    first = row("static", None, outcome="failed")
    results = Ended()
    results.add_table(pd.DataFrame([first, row("dynamical", 0.7, 3.0, 10)]))
    assert "– (0, 1 lost)" in standings(results.cells(now=True))[2]
    results.add({**first, "outcome": "completed", "val_accuracy": 0.5})
    assert " 0.500 (1) " in standings(results.cells(now=True))[2]


def test_a_display_gathers_now_and_then():
    results = Ended()
    results.add(row("static", 0.5))
    first = results.cells()
    for _ in range(1000):
        results.add(row("static", 0.5, seed=next(NUMBER)))
        assert results.cells() is first or len(results.cells().cells.of_job) > 1
    assert len(results.cells(now=True).cells.of_job) == 1001


def test_varying_settings_are_those_that_some_jobs_do_not_have():
    jobs = [
        Job("a", {"loss.kind": "static", "train.lr": 1.0, "train.lr_schedule": [[0.0, 1.0]]}),
        Job("b", {"loss.kind": "dynamical", "loss.amplitude": 3.0, "train.lr": 1.0}),
        Job("c", {"loss.kind": "dynamical", "loss.amplitude": 3.0, "train.lr": 1.0}),
    ]
    assert varying_settings(jobs) == ("loss.kind", "loss.amplitude", "train.lr_schedule")
    assert varying_settings(jobs[1:]) == varying_settings([]) == ()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_display_is_as_wide_as_the_terminal(width):
    rows = [row("static", 0.5), row("dynamical", 0.7, 3.0, 10)]
    progress = ended(rows)
    progress.seconds_left = lambda: 0.001
    console = Console(width=width, height=24, record=True, file=io.StringIO())
    stop = SimpleNamespace(event=threading.Event())
    console.print(Screen(progress, "a-sweep", stop, console).frame(3.0))
    lines = console.export_text().splitlines()
    assert lines[0].startswith("a-sweep ")
    bar = lines[0].count("━") + lines[0].count("╸") + lines[0].count("╺")
    assert width - 30 <= bar <= width
    assert all(len(line) <= width for line in lines)
    assert any("±" in line for line in lines)


def test_rates_are_never_absurd():
    progress = Progress(total=10)
    pace = Pace(progress)
    assert "steps/s" not in pace.describe(50.0)
    assert "starting 50 s (a first run compiles)" in pace.describe(50.0)
    assert "steps/s" not in pace.describe(60.0)
    progress.steps = 1
    assert "steps/s" not in pace.describe(60.05)
    progress.steps = 5000
    assert "500 steps/s" in pace.describe(70.0)  # of ten seconds: a minute was compiling


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (59.7, "1 min 00 s"),
        (3599.8, "1 h 00 min"),
        (86_399, "23 h 59 min"),
        (90_000, "1 d 01 h"),
        (1e12, "more than 99 days"),
    ],
)
def test_durations(seconds, said):
    assert clock(seconds) == said
