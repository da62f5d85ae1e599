"""What a terminal shows: nothing but text where asked, eighty columns, curves in one line."""

import os
import pty
import re
import select
import subprocess

import pandas as pd
import pytest

import tiltcli
from helpers import GRID, command, tilt, tilt_process, write_grid
from tiltcli.cli.standings import mean_curve, spark

BEST = ["--best", "val_accuracy"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("terminal")
    tiltcli.sweep(write_grid(path), results=path / "results")
    return path


def on_terminal(*words, cwd, **env):
    """Run on a pseudo-terminal: exit code, and all that was written to it."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", **env}
    if not env.get("NO_COLOR"):
        environment.pop("NO_COLOR", None)
    with subprocess.Popen(
        command(*words), cwd=cwd, env=environment, stdout=theirs, stderr=theirs, stdin=theirs
    ) as process:
        os.close(theirs)
        seen = b""
        while select.select([ours], [], [], 120)[0]:
            try:
                seen += os.read(ours, 65536)
            except OSError:  # the other end has closed
                break
    os.close(ours)
    return process.returncode, seen.decode()


def test_sweep_shows_jobs_and_standings_live(tmp_path):
    # The first frame comes a tenth of a second after the start; this takes longer.
    write_grid(tmp_path, GRID.replace("epochs = 200", "epochs = 6000"))
    code, seen = on_terminal("sweep", "grid.toml", cwd=tmp_path)
    assert code == 0
    assert "\x1b[?25l" in seen
    assert seen.rstrip().rfind("\x1b[?25h") > seen.rfind("\x1b[?25l")  # the cursor comes back
    assert "/18 jobs" in seen
    assert re.search(r"\d+ running, 0 diverged, 0 failed, [\d,]+ steps/s", seen)
    after = seen[seen.rfind("\x1b[?25h") :]
    assert "validation accuracy: mean ± 95% interval (seeds)" in after
    assert re.search(r" 8  0\.\d{3} ±\.\d{3} \(3\) .* A (3|10), T 20", after)


@pytest.mark.parametrize(
    ("words", "env"),
    [
        (["sweep", "grid.toml"], {"NO_COLOR": "1"}),
        (["sweep", "-h"], {"TERM": "dumb"}),
        (["--help"], {"NO_COLOR": "1"}),
        (["compare", "--no-color", "-h"], {}),
        (["swep"], {"NO_COLOR": "1"}),
    ],
)
def test_no_escape_codes_where_none_are_wanted(tmp_path, words, env):
    write_grid(tmp_path, GRID.replace("epochs = 200", "epochs = 20"))
    _, seen = on_terminal(*words, cwd=tmp_path, **env)
    assert len(seen) > 20
    assert "\x1b" not in seen


def test_quiet_says_nothing(tmp_path):
    write_grid(tmp_path, GRID.replace("epochs = 200", "epochs = 20"))
    assert on_terminal("sweep", "grid.toml", "--quiet", cwd=tmp_path) == (0, "")


def test_tables_fit_eighty_columns(folder):
    sides = ("grid@loss.kind=static", "grid@loss.kind=dynamical")
    for words in (["runs"], ["runs", "grid"], ["compare", *sides], ["compare", *sides, *BEST]):
        shown = tilt(*words, cwd=folder, extra_env={"COLUMNS": "80"})
        assert shown.returncode == 0, shown.stderr
        assert max(map(len, shown.stdout.splitlines())) <= 80
        # Nothing is cut: dots stand between the ends of an interval alone.
        assert "…" not in re.sub(r"(?<=\d) ?… ?(?=[+-]?\d)", " ", shown.stdout)


def test_runs_shows_learning_of_static_and_the_best_cell(folder):
    lines = tilt("runs", "grid", cwd=folder).stdout.splitlines()
    rows = [line for line in lines if re.search("[▁▂▃▄▅▆▇█]{8}", line)]
    assert [line.split()[:2] for line in rows[::2]] == [["4", "static"], ["8", "static"]]
    assert all(line.split()[0] == "A" for line in rows[1::2])
    jobs = tiltcli.read("grid", folder / "results").jobs
    mean = jobs[(jobs["model.width"] == 4) & (jobs["loss.kind"] == "static")]["train_accuracy"]
    assert f" {mean.mean():.3f} ±" in rows[0]


def test_other_encodings_get_question_marks(folder):
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    shown = tilt_process("runs", "grid", cwd=folder, extra_env=ascii_only)
    assert shown.returncode == 0, shown.stderr
    assert "?.0" in shown.stdout


def test_spark_by_hand():
    assert spark([0.0, 0.5, 1.0, float("nan"), 0.25], 0.0, 1.0) == "▁▅█ ▃"
    assert spark([0.3, 0.3], 0.3, 0.3) == "▁▁"


def test_mean_curve_by_hand():
    metrics = pd.DataFrame(
        {
            "job": ["a"] * 4 + ["b"] * 4 + ["c"],
            "epoch": [0, 1, 2, 3] * 2 + [3],
            "train_accuracy": [0.0, 0.2, 0.4, 0.6, 0.2, 0.4, 0.6, 0.8, 99.0],
        }
    )
    assert mean_curve(metrics, {"a", "b"}, "train_accuracy", 2) == pytest.approx([0.2, 0.6])
    eight = mean_curve(metrics, {"a"}, "train_accuracy", 8)
    assert eight == pytest.approx([0.0, 0.0, 0.2, 0.2, 0.4, 0.4, 0.6, 0.6])
    assert mean_curve(metrics, set(), "train_accuracy", 2) == pytest.approx(
        [float("nan")] * 2, nan_ok=True
    )
