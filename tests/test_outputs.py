"""What -o names: a file is replaced, or a new one made; nothing else is touched or followed."""

import os
import socket
import stat

import pytest

import tiltcli
from helpers import GRID, tilt, write_grid

RUN = GRID.replace("epochs = 200", "epochs = 20").replace("[4, 8]", "[4]").replace("[3, 10]", "[3]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a small run in results/."""
    folder = tmp_path_factory.mktemp("outputs")
    tiltcli.sweep(write_grid(folder, RUN), results=folder / "results")
    return folder


def fifo(path):
    os.mkfifo(path)


def device(path):
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("NOT TESTED: devices are root's to make")


def sock(path):
    os.chdir(path.parent)  # its name may not be long; the fixture of all tests goes back
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)


def link(path):
    (path.parent / "kept").write_text("kept")
    path.symlink_to("kept")


def dangling(path):
    path.symlink_to("absent")


COMMANDS = {
    "confirm grid -o": "x.toml",
    "refine grid --keep 1 -o": "x.toml",
    "plot phase grid -o": "x.png",
    "compare grid@loss.kind=static grid@loss.kind=dynamical --plot": "x.svg",
    "report grid -o": "x.html",
    "report grid  -o": "x.md",
}


@pytest.mark.parametrize("kind", [fifo, device, sock, link, dangling, os.mkdir])
@pytest.mark.parametrize("words", COMMANDS)
def test_only_files_are_replaced(folder, tmp_path, words, kind):
    path = tmp_path / COMMANDS[words]
    kind(path)
    before = path.lstat().st_ino, path.lstat().st_mode, sorted(tmp_path.iterdir())
    done = tilt(*words.split(), path, cwd=folder)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {path}: is a"), done.stderr
    assert (path.lstat().st_ino, path.lstat().st_mode, sorted(tmp_path.iterdir())) == before
    assert not (tmp_path / "kept").exists() or (tmp_path / "kept").read_text() == "kept"


@pytest.mark.parametrize("words", COMMANDS)
def test_a_file_is_replaced_whole(folder, tmp_path, words):
    path = tmp_path / COMMANDS[words]
    path.write_text("before")
    done = tilt(*words.split(), path, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert path.stat().st_size > 200 and path.is_file() and not list(tmp_path.glob(".*"))


def test_a_folder_of_figures_that_leads_elsewhere(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "figures").symlink_to("elsewhere")
    done = tilt("report", "grid", "-o", tmp_path / "x.md", cwd=folder)
    assert done.returncode == 2 and f"{tmp_path / 'figures'}: is a link" in done.stderr
    assert not list((tmp_path / "elsewhere").iterdir()) and not (tmp_path / "x.md").exists()


@pytest.mark.parametrize("name", ["no/x.toml", "x.toml/y.toml", "x" * 300 + ".toml"])
def test_places_that_are_none(folder, tmp_path, name):
    (tmp_path / "x.toml").write_text("kept")
    done = tilt("confirm", "grid", "-o", f"{tmp_path}/{name}", cwd=folder)
    assert done.returncode == 2 and "error: " in done.stderr and "Traceback" not in done.stderr
    assert (tmp_path / "x.toml").read_text() == "kept"


def test_a_long_name_fits(folder, tmp_path):
    path = tmp_path / ("é" * 120 + ".toml")
    assert tilt("confirm", "grid", "-o", path, cwd=folder).returncode == 0 and path.is_file()
