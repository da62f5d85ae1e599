"""The README and docs/: every command and block of Python does what it says, facts are facts."""

import contextlib
import io
import json
import re
import shlex
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from helpers import tilt
from manual import SECTIONS, as_it_ought_to_be
from tiltcli.cli.main import load_commands
from tiltcli.cli.options import app
from tiltcli.grid import parse_sweep
from tiltcli.grid.settings import SETTINGS

README = Path("README.md")
PAGES = [README, *sorted(Path("docs").glob("*.md"))]
SHORT = "--set train.epochs=400 --set train.log_every=100"
FEW = "--set train.epochs=1 --set train.seeds=2 --workers 0"
SHORTER = {
    "sweeps/spiral-fig4.toml": "--set train.epochs=1300 --set loss.period=200 --set loss.settle=0",
    "sweeps/spiral-branch.toml": "--set train.epochs=2500",
    "sweeps/digits-myrtle5-phase.toml": f"{FEW} --set model.width=3 --set loss.period=12",
    "sweeps/digits-myrtle5-confirm.toml": FEW,
    "mine.toml": "--set train.epochs=2 --workers 1",
    "fair.toml": "--set train.epochs=60 --set train.log_every=20",
}
"""Added to every sweep, so that the test is quick; everything else runs as it stands."""
BRANCH = ["--points", "3", "--steps", "40", "--keep", "20"]
"""Added to every branch."""
EPOCHS = "4160,4161,4162"
"""Probed of a run as long as it is shipped; of the short one, earlier ones are."""


def blocks(page, *languages):
    """Blocks of code of a page, as (language, text), in the order they stand."""
    kinds = "|".join(languages)
    return re.findall(rf"^```({kinds})\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)


def steps(page):
    """Commands and blocks of Python of a page, as (language, text), in the order they stand."""
    for language, block in blocks(page, "sh", "python"):
        if language == "python":
            yield language, block
            continue
        lines = block.replace("\\\n", " ").splitlines()
        yield from (("sh", line) for line in lines if line.strip() and not line.startswith("#"))


def commands(page):
    return [text for language, text in steps(page) if language == "sh"]


def targets():
    lines = [line for page in PAGES for line in commands(page) if line.startswith("make ")]
    named = {word for line in lines for word in line.split()[1:] if "=" not in word}
    inline = re.findall(r"`make ([a-z0-9-]+)`", "".join(page.read_text("utf-8") for page in PAGES))
    return sorted(named | set(inline))


def test_the_two_commands_come_first():
    assert commands(README)[:2] == ["make reproduce", "make test"]


@pytest.mark.parametrize("target", targets())
def test_make_knows(target):
    shown = subprocess.run(["make", "-n", target], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr


@contextlib.contextmanager
def cluster(folder):
    """A Dask scheduler and a worker, as the page starts them; the address."""
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


def run(page, folder, address=""):
    """Do what a page says, in a folder."""
    for language, line in steps(page):
        if language == "python":
            with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
                exec(compile(line, str(page), "exec"), {"__name__": "__main__"})
            continue
        if not line.startswith("tiltcli "):
            continue
        line = line.replace("tcp://host:8786", address).replace(EPOCHS, "160,161,162")
        line, _, target = line.partition(" > ")
        piped = ""
        for part in line.split(" | "):
            words = shlex.split(part, comments=True)[1:]
            if words[0] == "sweep":
                words += SHORTER.get(words[1], SHORT).split()
                words += ["--fresh"] * ("--cluster" in words)
            words += BRANCH * (words[0] == "branch")
            done = tilt(*words, cwd=folder, text=piped)
            assert done.returncode == 0, f"{page}: {line}\n{done.stdout}\n{done.stderr}"
            assert "Traceback" not in done.stderr
            piped = done.stdout
        if target:
            (folder / target.partition("#")[0].strip()).write_text(done.stdout, encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the README was followed: the other pages go on from there."""
    path = tmp_path_factory.mktemp("readme")
    (path / "sweeps").symlink_to(Path("sweeps").resolve())
    run(README, path)
    return path


def test_a_newcomers_hour(folder):
    assert (folder / "results" / "my-spiral" / "jobs").is_dir()
    assert (folder / "results" / "my-spiral-confirm" / "jobs").is_dir()
    assert (folder / "report.html").is_file() and (folder / "phase.png").is_file()


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.stem)
def test_a_page_does_what_it_says(folder, page):
    with contextlib.ExitStack() as stack:
        text = page.read_text("utf-8")
        address = stack.enter_context(cluster(folder)) if "--cluster tcp" in text else ""
        run(page, folder, address)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_grids_are_valid(page):
    for _, text in blocks(page, "toml"):
        if "[train]" in text:
            assert len(parse_sweep(text, name="shown", folder=Path()).jobs) > 1
        else:
            assert tomllib.loads(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_pictures_exist(page):
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")):
        if "://" not in link:
            place, _, anchor = link.partition("#")
            target = page.parent / place if place else page
            assert target.exists(), link
            if anchor:
                headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.M)
                slugs = {re.sub(r"[^\w\- ]", "", one).lower().replace(" ", "-") for one in headings}
                assert anchor in slugs, link


def test_every_page_is_named_in_the_readme():
    text = README.read_text("utf-8")
    assert all(f"({page})" in text for page in PAGES[1:])
    assert len(text.splitlines()) <= 250


@pytest.mark.parametrize("page", SECTIONS, ids=lambda page: page.stem)
def test_what_is_generated_is_not_stale(page):
    assert page.read_text("utf-8") == as_it_ought_to_be(page), "make docs"


def test_every_setting_command_and_option_is_there():
    settings = Path("docs/settings.md").read_text("utf-8")
    for key in SETTINGS:
        assert f"| `{'train.seeds' if key == 'train.seed' else key}` |" in settings
    load_commands()
    text = Path("docs/commands.md").read_text("utf-8")
    for command in app.registered_commands:
        name = command.callback.__name__
        page = text.partition(f"\n## `tiltcli {name}`\n")[2].partition("\n## ")[0]
        assert f"\nExample: `tiltcli {name}" in page
    for option in ("--shard", "--retry-failed", "--best", "--zoom", "--ntk-points", "--list"):
        assert f"`{option}" in text


def test_the_results_are_the_published_report():
    """Every verdict, number and run of both reports' tables of claims stands in the README."""
    shown = README.read_text("utf-8").partition("<!-- results -->")[2].partition("<!-- /")[0]
    reports = [Path(f"results/published/{name}.md") for name in ("REPORT", "PICTURES")]
    report = "".join(path.read_text("utf-8") for path in reports)
    rows = [line.split(" | ") for line in report.splitlines() if "| **" in line]
    assert len(rows) > 8
    for claim, name, verdict, _, difference, interval, n, *_ in rows:
        (line,) = [line for line in shown.splitlines() if line.startswith(f"{claim} |")]
        low, high = interval.split(" … ")
        assert f"{verdict} {difference} ({low} … {high}), {n}, {name}" in line
    (made,) = re.findall(r"Made by tiltcli .*", shown)
    for one in made.removeprefix("Made by ").removesuffix(".").split("; "):
        assert re.search(r"[0-9]+ cores, Python 3.* torch 2", one) and one in report
