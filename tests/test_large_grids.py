"""Grids that are too large in some respect are refused with a message, before they cost anything.

Clocks decide nothing here: a limit on the processor's time of the whole process does, far above
what a refusal takes and far below what each of these took.
"""

import json
import resource
import subprocess
import sys

import pytest

from tiltcli.errors import UserError
from tiltcli.grid import parse_sweep
from tiltcli.grid.axes import axis_size, axis_values
from tiltcli.grid.settings import SETTINGS

BASE = """[data]
kind = "spiral"
[model]
width = 4
[loss]
kind = "static"
[train]
epochs = 2
"""
AXIS = "{ linspace = [1, 2, 1000000] }"
BITS = "0x" + "f" * 5000
HUGE = {
    "blocks in a line": ("also = [" + "{}," * 300_000 + "]\n" + BASE, "300,000 blocks; at most"),
    "blocks": (BASE + "[[also]]\n" * 25_000, "25,000 blocks; at most 2,000"),
    "keys": (BASE + "".join(f"k{n} = 1\n" for n in range(60_000)), "60,001 keys; at most 1,000"),
    "tables": (BASE + "".join(f"[t{n}]\n" for n in range(60_000)), "60,004 keys; at most 1,000"),
    "parts": (BASE + ".".join("a" * 200_000) + " = 1\n", ".toml:9: a key of more than 64"),
    "quoted parts": (
        "[" + ".".join(['"a b"'] * 150_000) + "]\n" + BASE,
        ":1: a key of more than 64",
    ),
    "jobs": (
        BASE.replace('"static"', f'"dynamical"\nperiod = 3\namplitude = {AXIS}')
        + f"momentum = [0, 0.5]\nseeds = 2\nlr = {AXIS}\n",
        "the grid has 4,000,000,000,000 jobs; at most 2,000,000",
    ),
    "jobs of many blocks": (
        BASE + f"[[also]]\ntrain.lr = {AXIS}\n" * 1000,
        "train: the grid has 2,000,001 jobs",
    ),
    "an axis beside a fault": (BASE + f"lr = {AXIS}\nfoo = 1\n", "train.foo: unknown"),
    "digits": ("x = " + "1" * 4301 + "\n" + BASE, ":1: a number of more than 308 digits"),
    "bits": (BASE + f"lr = {BITS}\n", ":9: train.lr: a number of more than 308 digits"),
    "bits of seeds": (BASE + f"seeds = {BITS}\n", "train.seeds: a number of more than 308"),
    "bits of a name": (f"name = {BITS}\n" + BASE, "name: a number of more than 308"),
    "bits of a probe": (BASE + f"[probe]\nevery = {BITS}\n", "probe.every: a number of more than"),
    "faults": (BASE + "".join(f"[[also]]\nx{n} = 1\n" for n in range(2000)), "only the first 100"),
    "methods": (
        BASE + "[sweep]\nmethods = [" + '"nothing",' * 60_000 + "]\n",
        "names nothing, which",
    ),
}
PROGRAM = """
import json, sys
from pathlib import Path
from tiltcli.errors import UserError
from tiltcli.grid import load_sweep
for path in sorted(Path(sys.argv[1]).glob("*.toml")):
    try:
        load_sweep(path)
    except UserError as error:
        print(json.dumps([path.stem, str(error)]), flush=True)
"""
SECONDS = 40
"""Of the processor, for all of them: they take five; each took as long before, and most minutes."""


@pytest.fixture(scope="module")
def messages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    for name, (text, _) in HUGE.items():
        path = folder / f"{name}.toml"
        path.write_text(text)
        assert path.stat().st_size <= 1 << 20
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr
    return dict(map(json.loads, done.stdout.splitlines()))


@pytest.mark.parametrize("name", HUGE)
def test_refused_at_once(messages, name):
    assert HUGE[name][1] in messages[name] and len(messages[name]) < 20_000


@pytest.mark.parametrize("text", ["train.lr=" + "1" * 4301, f"train.lr={BITS}", f"x={BITS}"])
def test_numbers_of_overrides(tmp_path, text):
    with pytest.raises(UserError, match=r"--set: .*a number of more than 308 digits"):
        parse_sweep(BASE, name="grid", folder=tmp_path, overrides=[text])


def test_what_is_as_large_as_it_may_be(tmp_path):
    """Close to the bounds, nothing is refused; what looks like a key in a text is none."""
    dotted = ".".join("a" * 60)
    text = BASE + f"# {dotted}\nlr = {{ linspace = [1, 2, 200] }}\n"
    text += "[[also]]\ntrain.seeds = [1]\n" * 500
    assert len(parse_sweep(text, name="grid", folder=tmp_path).jobs) == 400


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.lr", 1.0),
        ("train.lr", [1, 2, 1.0, 3]),
        ("train.lr", {"range": [1, 2, 0.25]}),
        ("train.lr", {"range": [3, 1, -0.5]}),
        ("train.lr", {"range": [3, 1, -1]}),
        ("train.lr", {"linspace": [1, 1 + 1e-12, 50]}),
        ("train.lr", {"logspace": [1e-3, 1, 7]}),
        ("model.width", {"logspace": [1, 20, 50]}),
        ("model.width", {"linspace": [1, 5, 40]}),
        ("model.width", {"range": [1, 5]}),
        ("train.lr_schedule", [[[0.0, 1.0]], [[0.0, 2.0]]]),
        ("train.lr_schedule", [[0.0, 1.0], [1.0, 2.0]]),
        ("loss.kind", ["static", "dynamical", "static"]),
    ],
)
def test_size_of_an_axis_is_that_of_its_values(key, value):
    """Never more than there are, so that no grid is refused that is small enough."""
    size, there = axis_size(SETTINGS[key], value), len(axis_values(SETTINGS[key], value))
    assert 1 <= size <= there
    assert size == there or "linspace" in value
