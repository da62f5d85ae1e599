"""Completion as a shell asks for it, by the environment: names that are there, nothing heavy."""

import os
import subprocess
import sys

import pytest

from tiltcli.cli.commands.new import templates
from tiltcli.store import list_runs

ASK = (
    "import sys\n"
    "from tiltcli.cli import main\n"
    "try:\n    main()\nexcept SystemExit:\n    pass\n"
    "known = {'torch', 'numba', 'pandas', 'pyarrow', 'matplotlib', 'numpy'}\n"
    "print(sorted(known & set(sys.modules)), file=sys.stderr)"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion")
    for name in ("results/first", "results/second", "results/empty", "elsewhere/third"):
        (path / name).mkdir(parents=True)
        if "empty" not in name:
            (path / name / "sweep.toml").write_text("")
    return path


def completed(line, folder):
    """Words that bash would offer at the end of a line."""
    words = line.split(" ")
    environment = {**os.environ, "_TILTCLI_COMPLETE": "complete_bash", "COMP_WORDS": line}
    environment |= {"COMP_CWORD": str(len(words) - 1)}
    asked = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stderr.splitlines() == ["[]"]
    return asked.stdout.split()


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("tiltcli compare ", ["first", "second"]),
        ("tiltcli compare first s", ["second"]),
        ("tiltcli plot phase f", ["first"]),
        ("tiltcli report first ", ["second"]),
        ("tiltcli runs --results elsewhere ", ["third"]),
        ("tiltcli instabilities ", ["first", "second"]),
        ("tiltcli confirm ", ["first", "second"]),
        ("tiltcli probe x", []),
        ("tiltcli plot cur", ["curves", "curvature"]),
        ("tiltcli new spiral-", [name for name in sorted(templates()) if "spiral-" in name]),
        ("tiltcli comp", ["compare"]),
    ],
)
def test_names(folder, line, names):
    assert completed(line, folder) == names


def test_runs_are_those_of_the_store(folder):
    assert list_runs(folder / "results") == completed("tiltcli runs ", folder)
