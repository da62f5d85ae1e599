"""What is committed names no place of anybody's machine and no registry of packages."""

import re
import subprocess
from pathlib import Path

import pytest

HOSTS = {
    "127.0.0.1",
    "arxiv.org",  # the paper
    "host",  # any, in examples
    "json-schema.org",
    "localhost",
    "pytorch.org",  # how to install torch
    "raw.githubusercontent.com",  # Fashion-MNIST
    "www.cs.toronto.edu",  # CIFAR-10
    "www.w3.org",  # SVG's name
}
"""All that a tracked file may name; a new one is agreed on, not left behind."""

PLACES = "builds|home|mnt|private|root|scratch|srv|tmp|Users|var|work|workspaces?"
LEAKS = {
    "a folder of a machine": re.compile(rf"(?<![\w./$}}~-])/(?:{PLACES})(?![\w.-])"),
    "a folder of a machine with Windows": re.compile(r"\b[A-Za-z]:\\+(?:Users|work|tmp)\b"),
    "an index of packages": re.compile(
        r"(?i)\b(?:extra[-_])?index[-_]?url\b|\bfind[-_]links\b|\btrusted[-_]host\b"
        r"|\bPIP_(?:INDEX|CONFIG|EXTRA)"
        r"|\b(?:pypi|pythonhosted|anaconda|artifactory|jfrog|nexus|devpi|ghcr|docker)\.(?:org|io|com)"
        r"|download\.pytorch\b"
    ),
}
IN_BINARY = re.compile(rf"/(?:{PLACES})/\w{{3}}".encode())
URL = re.compile(r"\b[a-z][a-z0-9+]*://(?:[^\s/@]*@)?([\w.-]+)")
PINNED = re.compile(r"[A-Za-z0-9][\w.-]*==[\w.]+(?:\.post\d+)?")


def leaks(text):
    """What a text names that it should not, as (what it is, where it stands)."""
    for what, pattern in LEAKS.items():
        yield from ((what, found[0]) for found in pattern.finditer(text))
    for found in URL.finditer(text):
        if found[1] not in HOSTS:
            yield "a host that is not agreed on", found[0]


def tracked():
    """Every file that git tracks: its path and content."""
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, check=True).stdout
    paths = map(Path, listed.decode().rstrip("\0").split("\0"))
    return {path: path.read_bytes() for path in paths if path.is_file()}  # or removed a moment ago


# Written with ~ for /, so that this file can be looked through like all others.
PLANTED = [
    "results = Path('~home~someone~results')",
    "# see ~root~notes.txt",
    'cache = "~tmp~tiltcli-cache"',
    "cd ~work~tilt && make",
    "PREFIX=~Users~someone",
    "open(~mnt~disk)",
    "[~var~log]",
    "C:" + r"\Users\someone",
    "--index" + "-url https:~~example.net~root~pypi",
    "--extra-index" + "-url=x",
    "find" + "-links = wheels",
    "PIP_" + "INDEX" + "_URL",
    "https:~~py" + "pi.org~simple",
    "numpy @ https:~~files.python" + "hosted.org~numpy.whl",
    "[registry](https:~~packages.example.net)",
    "http:~~user:secret@10.0.0.7:3128",
    "the mirror at https:~~mirror.example~simple",
]


@pytest.mark.parametrize("line", PLANTED)
def test_a_planted_leak_is_found(line):
    assert list(leaks(f"first = 1\n{line.replace('~', '/')}\n")), line


@pytest.mark.parametrize(
    "line",
    [
        'with np.load("tests/data/run_a.npz") as case:',
        "#!/usr/bin/env bash",
        "subprocess.DEVNULL, '/dev/null', '/etc/passwd', '/proc/'",
        "results/tmp/x, ../data/, ${HOME}/work, ~/data and/or",
        "https://arxiv.org/abs/2102.03793 and tcp://host:8786",
        'f"tcp://{address}:8786"',
        "an index, simple and useful; index.html",
    ],
)
def test_what_is_no_leak(line):
    assert not list(leaks(line))


def test_no_tracked_file_has_a_leak():
    files = tracked()
    assert {Path("README.md"), Path("src/tiltcli/losses.py"), Path(".ci/run")} <= files.keys()
    found = []
    for path, content in files.items():
        if b"\0" in content:  # what is compressed may spell anything short
            found += [(path, place) for place in IN_BINARY.findall(content)]
        else:
            found += [(path, *leak) for leak in leaks(content.decode("utf-8", "replace"))]
    assert not found


def test_constraints_are_names_and_versions():
    """Neither places, nor hashes, nor options of pip."""
    first, *lines = Path("constraints.txt").read_text(encoding="utf-8").splitlines()
    assert first.startswith("# ")
    assert not [line for line in lines if not PINNED.fullmatch(line)]
    assert lines == sorted(lines, key=str.lower)
