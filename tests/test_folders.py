"""Runs as folders: listed in order, removed, renamed; a renamed folder is a renamed run."""

import json
import shutil

import pytest

import tiltcli
from helpers import GRID, tilt, write_grid
from tiltcli.store.locks import RunLock

SMALL = GRID.replace("[4, 8]", "4").replace("epochs = 200", "epochs = 20")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folders")
    for name, seeds in (("few", 2), ("many", 5)):
        write_grid(folder, SMALL.replace("seeds = 3", f"seeds = {seeds}"), name)
        tiltcli.sweep(folder / f"{name}.toml", results=folder / "results")
    return folder


@pytest.fixture
def place(made, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_runs_are_listed_in_order(place):
    def names(*words):
        shown = tilt("runs", *words, "--format", "json", cwd=place)
        return [one["name"] for one in json.loads(shown.stdout)["runs"]]

    assert names() == ["few", "many"]
    assert names("--sort", "jobs") == names("--sort", "done") == ["many", "few"]
    (place / "results" / "few" / "provenance.json").unlink()  # its number of jobs is unknown
    assert names("--sort", "missing")[0] in ("few", "many")
    refused = tilt("runs", "--sort", "jbos", cwd=place)
    assert refused.returncode == 2 and "did you mean jobs?" in refused.stderr


def test_a_run_is_removed_only_when_that_is_meant(place):
    run = place / "results" / "few"
    refused = tilt("rm", "few", cwd=place)
    assert refused.returncode == 2 and "--yes" in refused.stderr and run.is_dir()
    refused = tilt("rm", "few", "fwe", "--yes", cwd=place)
    assert refused.returncode == 2 and "did you mean few?" in refused.stderr and run.is_dir()
    shown = tilt("rm", "few", "--yes", cwd=place)
    assert shown.returncode == 0 and "removed: results/few: 6 jobs" in shown.stderr
    assert [path.name for path in (place / "results").iterdir() if "few" in path.name] == []
    assert (place / "results" / "many").is_dir()


def test_the_question_is_answered(place):
    run = place / "results" / "few"
    assert tilt("rm", "few", cwd=place, text="n\n").returncode == 0 and run.is_dir()
    assert tilt("rm", "few", cwd=place, text="y\n").returncode == 0 and not run.exists()


def test_a_run_in_use_stays(place):
    lock = RunLock(place / "results" / "few")
    with lock.gate():
        lock.acquire()
    try:
        for words in (("rm", "few", "--yes"), ("mv", "few", "other")):
            refused = tilt(*words, cwd=place)
            assert refused.returncode == 2 and "in use" in refused.stderr
    finally:
        lock.release()
    assert (place / "results" / "few" / "sweep.toml").is_file()


@pytest.mark.parametrize("tool", [True, False])
def test_a_renamed_folder_is_a_renamed_run(place, tool):
    if tool:
        assert tilt("mv", "few", "seen", cwd=place).stdout == "results/seen\n"
    else:
        (place / "results" / "few").rename(place / "results" / "seen")
    assert tiltcli.read("seen", place / "results").name == "seen"
    again = tilt("sweep", "few.toml", "--set", "name=seen", cwd=place)
    assert again.returncode == 0 and "6 were done before" in again.stderr
    assert 'name = "seen-confirm"' in tilt("confirm", "seen", cwd=place).stdout
    refined = tilt("refine", "seen", "--keep", "1", "--seeds", "3", cwd=place)
    assert 'name = "seen"' in refined.stdout, refined.stderr
    if tool:  # the run's own file leads to it as well
        own = tilt("sweep", "results/seen/sweep.toml", cwd=place)
        assert own.returncode == 0 and "6 were done before" in own.stderr
    assert not (place / "results" / "few").exists()


@pytest.mark.parametrize(
    ("name", "said"), [("many", "is there already"), ("../x", "allowed: letters"), ("", "allowed")]
)
def test_a_new_name_is_free_and_a_name(place, name, said):
    refused = tilt("mv", "few", name, cwd=place)
    assert refused.returncode == 2 and said in refused.stderr
    assert (place / "results" / "few").is_dir()
