"""`make` in an environment of one's own: what it says, what it installs, what it leaves alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PYTHON = """#!{real}
import os, sys
words = sys.argv[1:]
if words[:1] == ["-c"] and "find_spec" in words[1]:
    sys.exit({torch} is False)
if words[:1] == ["-c"]:
    exec(words[1])
elif words[:2] == ["-m", "pip"] and "install" in words:
    pins = open(words[words.index("--constraint") + 1]).read()
    print("PINNED", "torch==" in pins, "numpy==" in pins)
elif words[:2] == ["-m", "venv"]:
    sys.exit("an environment that is there is not made again")
else:
    print("RUN", *words)
"""


@pytest.fixture
def project(tmp_path):
    """The Makefile, and the files it looks at, where it may leave its own."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes(Path(name).read_bytes())
    return tmp_path


def environment(folder, *, torch):
    """A Python that only says what it is asked for."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON.format(real=sys.executable, torch=torch))
    python.chmod(0o755)
    return python


def make(project, *words):
    done = subprocess.run(
        ["make", *words],
        cwd=project,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("torch", [True, False])
@pytest.mark.parametrize("place", [".venv", "elsewhere", ""])
def test_a_torch_that_is_there_stays(project, place, torch):
    python = environment(project / (place or "active"), torch=torch)
    words = [] if place == ".venv" else [f"VENV={place}"]
    words += [f"PYTHON={python}"] * (not place)
    said = make(project, "quick", *words)
    assert f"PINNED {not torch} True" in said
    assert ("the torch that is there stays" in said) is torch
    assert ("some gigabytes" in said) is not torch
    assert said.count("RUN -m tiltcli") == 3
    again = make(project, "quick", *words)
    assert "installing" not in again and "PINNED" not in again
    if not place:
        assert not (project / ".venv").exists()


def test_reproduce_begins_with_what_it_will_take(project):
    environment(project / ".venv", torch=True)
    ran = [line for line in make(project, "reproduce").splitlines() if line.startswith("RUN")]
    assert ran[0].startswith("RUN -m tiltcli.cli.dry_run sweeps/spiral-tuning-confirm.toml ")
    swept = [line.split()[-1] for line in ran if line.startswith("RUN -m tiltcli sweep")]
    assert ran[0].split()[3:] == swept and len(swept) > 5


def test_pictures_are_swept_then_confirmed(project):
    environment(project / ".venv", torch=True)
    said = make(project, "reproduce-pictures").splitlines()
    words = [line.split()[3:5] for line in said if line.startswith("RUN -m tiltcli ")]
    sweeps = [
        f"sweeps/{data}-myrtle5-{name}.toml"
        for data in ("digits", "fashion")
        for name in ("phase", "confirm")
    ]
    # Two reports at once after them: their lines mix.
    assert [found for found in words if found[0] == "sweep"] == [["sweep", one] for one in sweeps]


def test_what_it_will_take(tmp_path, capsys, monkeypatch):
    from tiltcli.api.sweeping import sweep
    from tiltcli.cli.dry_run import show_several

    grid = tmp_path / "small.toml"
    grid.write_text(
        '[data]\nkind = "spiral"\n[model]\nwidth = 3\n[loss]\nkind = "static"\n'
        "[train]\nepochs = 5\nseeds = 2\n"
    )
    other = tmp_path / "pictures.toml"
    other.write_text(grid.read_text().replace('"spiral"', '"cifar10"'))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    show_several([grid, other], tmp_path / "results")
    said = capsys.readouterr().out.splitlines()
    assert said[0].split(None, 5)[:5] == ["small", "2", "of", "2", "jobs:"]
    assert said[1].endswith("jobs: unknown until its data are here")
    assert said[2].startswith("data to be fetched: cifar-10-binary.tar.gz (170,052,171 bytes")
    assert said[3].endswith("as measured here just now; not counting what is unknown")
    sweep(grid, results=tmp_path / "results")
    show_several([grid], tmp_path / "results")
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("0 of 2 jobs: nothing to do")
    assert said[1] == "data to be fetched: none"
    assert said[-1].endswith("the same command goes on from there.")
