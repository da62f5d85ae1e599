"""The built wheel has all that it needs: it writes a shipped grid, and trains a first sweep."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tiltcli.cli.commands.new import templates


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The content of the wheel, built from the sources alone, in a folder."""
    place = tmp_path_factory.mktemp("wheel")
    sources = place / "sources"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("src", "sweeps"):
        shutil.copytree(name, sources / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(name, sources)
    build = "import setuptools.build_meta as b, sys; b.build_wheel(sys.argv[1])"
    made = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", build, str(place)],
        cwd=sources,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(place / "installed")
    return place / "installed"


def run(installed, *words, cwd):
    done = subprocess.run(
        [sys.executable, "-m", "tiltcli", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_template_is_in_the_wheel(unpacked):
    folder = unpacked / "tiltcli" / "grid" / "templates"
    assert {path.stem for path in folder.rglob("*.toml")} == set(templates())
    assert (folder / "slurm.sh").is_file() and not (folder / "shipped").is_symlink()
    for path in Path("sweeps").glob("*.toml"):
        assert (folder / "shipped" / path.name).read_bytes() == path.read_bytes()
    assert (unpacked / "tiltcli" / "py.typed").is_file()


def test_a_first_sweep(unpacked, tmp_path):
    text = run(unpacked, "new", "spiral", cwd=tmp_path)
    (tmp_path / "grid.toml").write_text(text, encoding="utf-8")
    few = ("--set", "train.epochs=10", "--set", "train.seeds=2", "--engine", "torch")
    few += ("--workers", "1")  # a process of its own, which has the installed package too
    run(unpacked, "sweep", "grid.toml", *few, cwd=tmp_path)
    run(unpacked, "report", "my-spiral", cwd=tmp_path)
    assert (tmp_path / "results" / "report.html").stat().st_size > 1e5
