"""Every command of the README does what it says, in the order it stands there."""

import contextlib
import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import tilt

README = Path("README.md")
SHORT = "--set train.epochs=400 --set train.log_every=100"
SHORTER = {
    "sweeps/spiral-fig4.toml": "--set train.epochs=1300 --set loss.period=200 --set loss.settle=0",
    "sweeps/digits-myrtle5-phase.toml": "--set train.epochs=1 --set train.seeds=2",
    "sweeps/digits-myrtle5-confirm.toml": "--set train.epochs=1 --set train.seeds=2",
}
"""Added to every sweep, so that the test is quick; everything else runs as it stands."""
EPOCHS = "4160,4161,4162"
"""Probed of a run as long as it is shipped; of the short one, earlier ones are."""


def blocks(language):
    text = README.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands():
    return [text for language, text in steps() if language == "sh"]


def steps():
    """Commands and blocks of Python, as (language, text), in the order they stand."""
    text = README.read_text(encoding="utf-8")
    for language, block in re.findall(r"^```(sh|python)\n(.*?)^```", text, re.M | re.S):
        if language == "python":
            yield language, block
            continue
        lines = block.replace("\\\n", " ").splitlines()
        yield from (("sh", line) for line in lines if line.strip() and not line.startswith("#"))


def targets():
    return [word for line in commands() if line.startswith("make ") for word in line.split()[1:]]


def test_the_two_commands_come_first():
    assert commands()[:2] == ["make reproduce", "make test"]


@pytest.mark.parametrize("target", sorted(set(targets())))
def test_make_knows(target):
    shown = subprocess.run(["make", "-n", target], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr


@contextlib.contextmanager
def cluster(folder):
    """A Dask scheduler and a worker, as the README starts them; the address."""
    words = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1"]
    words += ["--port", "0", "--no-dashboard", "--scheduler-file", "scheduler.json"]
    quiet = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(words, **quiet) as scheduler:
        words = [sys.executable, "-m", "distributed.cli.dask_worker", "--nworkers", "1"]
        words += ["--no-dashboard", "--scheduler-file", "scheduler.json"]
        with subprocess.Popen(words, **quiet) as worker:
            try:
                file = folder / "scheduler.json"
                deadline = time.monotonic() + 60
                while not file.exists() or "address" not in file.read_text():
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
                yield json.loads(file.read_text())["address"]
            finally:
                worker.terminate()
                scheduler.terminate()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Run all commands of the tool and all Python in the README in one folder, in order."""
    path = tmp_path_factory.mktemp("readme")
    (path / "sweeps").symlink_to(Path("sweeps").resolve())
    with cluster(path) as address:
        for language, line in steps():
            if language == "python":
                done = subprocess.run(
                    [sys.executable, "-c", line],
                    cwd=path,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == 0, f"{line}\n{done.stderr}"
                continue
            if not line.startswith("tiltcli "):
                continue
            line = line.replace("tcp://host:8786", address).replace(EPOCHS, "160,161,162")
            line, _, target = line.partition(" > ")
            words = shlex.split(line, comments=True)[1:]
            if words[0] == "sweep":
                words += SHORTER.get(words[1], SHORT).split()
                words += ["--fresh"] * ("--cluster" in words)
            done = tilt(*words, cwd=path)
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            if target:
                (path / target.partition("#")[0].strip()).write_text(done.stdout, encoding="utf-8")
    return path


def test_commands_of_the_tool(folder):
    assert (folder / "results" / "my-spiral" / "jobs").is_dir()
    assert (folder / "results" / "my-spiral-confirm" / "jobs").is_dir()
    assert (folder / "mid-pulse.pt").is_file()


def test_the_grid_of_the_readme_is_valid(folder):
    (text,) = blocks("toml")[:1]
    (folder / "shown.toml").write_text(text, encoding="utf-8")
    shown = tilt("sweep", "shown.toml", "--dry-run", "--results", "elsewhere", cwd=folder)
    assert shown.returncode == 0, shown.stderr


def test_links_and_pictures_exist():
    for link in re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8")):
        if "://" not in link:
            assert Path(link).exists(), link


def test_the_table_of_results_is_the_published_report():
    table = README.read_text(encoding="utf-8").partition("<!-- results -->")[2]
    shown = [line for line in table.partition("<!-- /results -->")[0].splitlines() if "|" in line]
    report = Path("results/published/REPORT.md").read_text(encoding="utf-8").splitlines()
    first = report.index(shown[0])
    assert len(shown) > 8
    assert report[first : first + len(shown)] == shown
