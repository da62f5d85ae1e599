"""The command line as a user meets it: help, exit codes, wrong guesses, nothing heavy loaded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import GRID, tilt, tilt_process, write_grid
from tiltcli.cli.main import load_commands
from tiltcli.cli.options import app
from tiltcli.grid import parse_sweep

load_commands()
COMMANDS = sorted(command.callback.__name__ for command in app.registered_commands)


def test_help_lists_every_command_with_an_example(tmp_path):
    page = tilt("--help", cwd=tmp_path)
    assert page.returncode == 0
    assert {"sweep", "compare", "runs", "plot", "report", "new"} <= {*COMMANDS}
    for name in COMMANDS:
        assert name in page.stdout
        for flag in ("--help", "-h"):
            own = tilt(name, flag, cwd=tmp_path)
            assert own.returncode == 0
            assert f"Example: tiltcli {name}" in own.stdout


def test_a_process_says_what_is_said_within_one(tmp_path):
    """Most tests spare themselves the start of a process; this one holds that it is the same."""
    for place in ("within", "process"):
        (tmp_path / place).mkdir()
        write_grid(tmp_path / place, GRID.replace("epochs = 200", "epochs = 5"))
    for words in (
        ["--help"],
        ["sweep", "--help"],
        ["swep"],
        ["sweep", "grid.toml", "--set", "model.widht=3", "--set", "train.epochs=0"],
        ["sweep", "grid.toml", "--quiet"],
        ["compare", "grid@loss.kind=static", "grid@loss.kind=dynamical", "--format", "json"],
        ["plot", "phase", "grid"],
    ):
        within = tilt(*words, cwd=tmp_path / "within")
        assert within == tilt_process(*words, cwd=tmp_path / "process")
        assert "Traceback" not in within.stderr
    assert within.returncode == 0


@pytest.mark.parametrize("words", [["--help"], ["sweep", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(tmp_path, words):
    code = (
        "import sys; sys.argv = ['tiltcli', *sys.argv[1:]]\n"
        "from tiltcli.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "known = {'torch', 'numba', 'pandas', 'pyarrow', 'matplotlib', 'numpy'}\n"
        "heavy = known & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, *words], check=True, capture_output=True, text=True
    )
    assert shown.stdout.splitlines()[-1] == "heavy: []"


def test_import_loads_neither_torch_nor_numba():
    code = "import sys, tiltcli; print({'torch', 'numba'} & set(sys.modules), tiltcli.__all__)"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert shown.stdout.startswith("set()")


def test_public_names_are_there_and_documented():
    import tiltcli

    for name in tiltcli.__all__:
        assert getattr(tiltcli, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = tiltcli.nope


def test_dry_run_writes_nothing(tmp_path):
    write_grid(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    shown = tilt("sweep", "grid.toml", "--dry-run", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "18 jobs (24 combinations, 6 duplicates removed)" in shown.stdout
    assert "estimated time" in shown.stdout
    assert sorted(tmp_path.rglob("*")) == before


BROKEN = {
    "a typing error": ("[model]", "[modle]", "did you mean model"),
    "a wrong key": ("width =", "widht =", "did you mean"),
    "a text for a number": ("epochs = 200", 'epochs = "many"', "train.epochs"),
    "an amplitude below one": ("[3, 10]", "[0.5, 10]", "loss.amplitude"),
    "a wrong choice": ('"spiral"', '"spirals"', "spiral"),
    "an unclosed list": ("[4, 8]", "[4, 8", "not valid TOML"),
    "an empty axis": ("[4, 8]", "[]", "model.width"),
    "a zero period": ("[20]", "[0]", "loss.period"),
    "a range without end": ("[4, 8]", "{ range = [1] }", "model.width"),
    "a negative rate": ("epochs = 200", "epochs = 200\nlr = -1", "train.lr"),
    "a missing setting": ("width = [4, 8]", "", "model.width"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_grids_write_nothing(tmp_path, name):
    old, new, said = BROKEN[name]
    assert old in GRID
    write_grid(tmp_path, GRID.replace(old, new))
    refused = tilt("sweep", "grid.toml", cwd=tmp_path)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["grid.toml"]


def test_all_faults_at_once(tmp_path):
    text = GRID
    for name in ("a text for a number", "an amplitude below one", "a zero period"):
        text = text.replace(*BROKEN[name][:2])
    write_grid(tmp_path, text)
    refused = tilt("sweep", "grid.toml", cwd=tmp_path)
    assert refused.returncode == 2
    faults = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert len(faults) == 3
    assert all("grid.toml:" in line for line in faults)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sweep", "nope.toml"], "no such file"),
        (["sweep"], "Missing argument"),
        (["swep", "grid.toml"], "No such command"),
        (["sweep", "grid.toml", "--engine", "fuse"], "fused"),
        (["sweep", "grid.toml", "--workers", "-1"], "from 0 (in this process) to 4096"),
        (["sweep", "grid.toml", "--set", "model.widht=3"], "did you mean model.width"),
        (["sweep", "grid.toml", "--set", "train.epochs"], "key=value"),
        (["runs", "nope"], "no run 'nope'"),
        (["runs", "--format", "xml"], "allowed: table, json"),
        (["new", "sprial"], "did you mean spiral"),
    ],
)
def test_wrong_guesses(tmp_path, words, said):
    write_grid(tmp_path)
    refused = tilt(*words, cwd=tmp_path)
    assert refused.returncode == 2
    assert said in refused.stderr.replace("\n", " ")
    assert "Traceback" not in refused.stderr


def test_results_that_cannot_be_written(tmp_path):
    write_grid(tmp_path)
    (tmp_path / "results").write_text("a file, not a folder")
    refused = tilt("sweep", "grid.toml", cwd=tmp_path)
    assert refused.returncode == 2
    assert "cannot be written" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_sweep_tells_and_runs_lists(tmp_path):
    write_grid(tmp_path)
    done = tilt("sweep", "grid.toml", cwd=tmp_path)
    assert done.returncode == 0
    assert "18 completed (18 of 18 jobs" in done.stderr
    assert done.stdout == ""
    again = tilt("sweep", "grid.toml", cwd=tmp_path)
    assert "nothing to do; 18 were done before" in again.stderr
    page = json.loads(tilt("runs", "--format", "json", cwd=tmp_path).stdout)
    assert page["runs"][0]["completed"] == 18
    assert "model.width: 4, 8" in tilt("runs", "grid", cwd=tmp_path).stdout


def test_diverged_jobs_are_no_error(tmp_path):
    write_grid(tmp_path, GRID.replace("epochs = 200", "epochs = 200\nlr = 1e12"))
    done = tilt("sweep", "grid.toml", cwd=tmp_path)
    assert done.returncode == 0
    assert "18 diverged" in done.stderr


@pytest.mark.parametrize("template", ["spiral", "table"])
def test_new_grids_are_valid(tmp_path, template):
    text = tilt("new", template, cwd=tmp_path).stdout
    (tmp_path / "grid.toml").write_text(text)
    if template == "table":
        rows = "\n".join(f"{i},{i % 7},{'ab'[i % 2]}" for i in range(40))
        (tmp_path / "mine.csv").write_text("x1,x2,label\n" + rows + "\n")
    shown = tilt("sweep", "grid.toml", "--dry-run", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert f"my-{template}: " in shown.stdout


def test_new_writes_what_is_shipped(tmp_path):
    listed = tilt("new", "--list", cwd=tmp_path).stdout.splitlines()
    names = [line.split()[0] for line in listed]
    others = {"spiral", "fair", "table", "slurm"}
    assert {path.stem for path in Path("sweeps").glob("*.toml")} | others == {*names}
    for line in listed:
        assert line.partition("  ")[2].strip()[-1] in ".?!", line
    shown = tilt("new", "spiral-phase", cwd=tmp_path)
    assert shown.stdout == Path("sweeps/spiral-phase.toml").read_text(encoding="utf-8")
    assert parse_sweep(shown.stdout, name="grid", folder=tmp_path).name == "spiral-phase"


@pytest.mark.parametrize("words", [["spiral"], ["--list"], []])
def test_new_refuses_what_a_template_has_no_use_for(tmp_path, words):
    given = ["--shards", "4", "--mem", "2G", "--results", "elsewhere"]
    refused = tilt("new", *words, *given, cwd=tmp_path)
    assert refused.returncode == 2 and refused.stdout == ""
    what = (words or ["spiral"])[0]
    assert refused.stderr.splitlines() == [
        f"error: {flag}: {what} has no use for it; only tiltcli new slurm has"
        for flag in ("--shards", "--mem", "--results")
    ]


def test_no_colour_codes_off_a_terminal(tmp_path):
    for words in (["--help"], ["sweep", "--help"], ["runs"], ["--no-color", "runs"]):
        shown = tilt_process(*words, cwd=tmp_path, extra_env={"NO_COLOR": ""})
        assert "\x1b" not in shown.stdout + shown.stderr


def test_dry_run_says_what_trains_each_kind_of_job(tmp_path):
    grid = write_grid(
        tmp_path,
        """
[data]
kind = "digits"
[model]
kind = ["mlp", "myrtle5"]
width = 2
[loss]
kind = ["static", "dynamical"]
amplitude = [2, 4]
period = 5
[train]
epochs = 2
optimizer = ["sgd", "adam"]
seeds = 2
""",
    )
    shown = tilt("sweep", grid, "--dry-run", cwd=tmp_path)
    assert shown.returncode == 0
    kinds = [line for line in shown.stdout.splitlines() if "steps/s and core" in line]
    # Amplitude, period and seed cost nothing: four kinds of six jobs each.
    assert len(kinds) == 4
    for line in kinds:
        assert " 6 jobs" in line
        speed = float(line.split()[1].replace(",", ""))
        assert speed > 0
        if "myrtle5" in line:
            assert line.split()[0] == "torch"
            assert 'does not train model.kind = "myrtle5"' in line
        else:
            assert line.split()[0] == "fused"
            assert "does not train" not in line
    assert {"optimizer=sgd" in line for line in kinds} == {True, False}


def test_a_grid_from_stdin(tmp_path):
    from helpers import GRID

    def sweep(text, *options):
        call = [sys.executable, "-m", "tiltcli", "sweep", "-", *options]
        return subprocess.run(call, input=text, cwd=tmp_path, capture_output=True, text=True)

    done = sweep(GRID, "--dry-run")
    assert (done.returncode, done.stdout.partition(":")[0]) == (0, "stdin")
    empty = sweep("")
    assert (empty.returncode, empty.stderr) == (2, "error: stdin: is empty: no grid came\n")
