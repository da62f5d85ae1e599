"""The JSON Schema of grid files against the reader: what one refuses the other refuses."""

import json
import tomllib
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from helpers import tilt
from tiltcli.cli.commands.new import templates
from tiltcli.errors import UserError
from tiltcli.grid import SETTINGS, parse_sweep
from tiltcli.grid.json_schema import json_schema

SCHEMA = json_schema()
VALIDATOR = Draft202012Validator(SCHEMA)

GOOD = """
name = "one"
[data]
kind = "spiral"
classes = { range = [2, 5] }
[model]
width = { logspace = [10, 1000, 3] }
[loss]
kind = ["static", "dynamical"]
amplitude = { linspace = [3, 10, 2] }
period = [10, 50]
settle = 2000
[train]
epochs = 3000
lr = [0.1, 0.5, 1.0]
lr_schedule = [[0.0, 0.0], [0.4, 1.0], [1, 0.1]]
batch_size = ["full", 16]
momentum = 0.9
nesterov = true
seeds = { range = [100, 120, 1] }
[probe]
every = 25
quantities = ["hessian"]
[sweep]
zip = [["model.width", "train.lr"]]
[[also]]
model.width = 6
loss.amplitude = [1.5, 2]
sweep.zip = [["loss.amplitude", "loss.period"]]
"""

BROKEN = {
    "unknown table": ("[probe]", "[prob]"),
    "unknown setting": ("settle =", "settel ="),
    "misspelt choice": ('"static"', '"statik"'),
    "amplitude below 1": ("{ linspace = [3, 10, 2] }", "[0.5, 3]"),
    "text for a number": ("epochs = 3000", 'epochs = "3000"'),
    "true for a number": ("epochs = 3000", "epochs = true"),
    "half an epoch": ("epochs = 3000", "epochs = 300.5"),
    "no epochs": ("epochs = 3000", ""),
    "no period": ("period = [10, 50]", ""),
    "empty axis": ("period = [10, 50]", "period = []"),
    "two axes in one": ("range = [2, 5]", "range = [2, 5], linspace = [2, 5, 4]"),
    "range without end": ("range = [2, 5]", "range = [2]"),
    "step of zero": ("[100, 120, 1]", "[100, 120, 0]"),
    "logspace from zero": ("[10, 1000, 3]", "[0, 1000, 3]"),
    "no seeds": ("seeds = { range = [100, 120, 1] }", "seeds = 0"),
    "one seed by its column's name": ("seeds =", "seed ="),
    "factor below zero": ("[1, 0.1]]", "[1, -0.1]]"),
    "momentum of 1": ("momentum = 0.9", "momentum = 1"),
    "width of an axis in a block": ("model.width = 6", "model.width = { range = [6, 9, 1.5, 2] }"),
    "unknown in a block": ("model.width = 6", "model.wdth = 6"),
    "probe in a block": ("model.width = 6", "probe.every = 6"),
    "tie of one": ('"model.width", "train.lr"', '"model.width"'),
    "tie of an unknown": ('"model.width", "train.lr"', '"model.width", "train.rl"'),
    "probe of nothing": ('["hessian"]', "[]"),
    "probe of an unknown": ('["hessian"]', '["hesian"]'),
    "probe never": ("every = 25", ""),
    "file without a path": ('kind = "spiral"', 'kind = ["spiral", "file"]'),
    "bad name": ('name = "one"', 'name = "../one"'),
}


def read(text, folder):
    return parse_sweep(text, name="grid", folder=folder)


def test_is_a_schema_and_the_command_prints_it(tmp_path):
    Draft202012Validator.check_schema(SCHEMA)
    shown = tilt("schema", cwd=tmp_path)
    assert json.loads(shown.stdout) == SCHEMA


@pytest.mark.parametrize("name", sorted(templates()))
def test_what_is_shipped_is_valid(name):
    VALIDATOR.validate(tomllib.loads(templates()[name]))


def test_good_grid(tmp_path):
    assert read(GOOD, tmp_path).jobs
    VALIDATOR.validate(tomllib.loads(GOOD))


@pytest.mark.parametrize("name", BROKEN)
def test_broken_grids(tmp_path, name):
    before, after = BROKEN[name]
    assert before in GOOD
    text = GOOD.replace(before, after)
    with pytest.raises(UserError):
        read(text, tmp_path)
    assert not VALIDATOR.is_valid(tomllib.loads(text))


def test_static_needs_no_amplitude(tmp_path):
    text = '[data]\nkind = "digits"\n[model]\nwidth = 3\n[train]\nepochs = 5\n[loss]\n'
    for kind, good in (('"static"', True), ('["static"]', True), ('"dynamical"', False)):
        document = tomllib.loads(f"{text}kind = {kind}\n")
        assert VALIDATOR.is_valid(document) is good
    assert not VALIDATOR.is_valid(tomllib.loads(text))  # the default is dynamical
    with pytest.raises(UserError, match="amplitude"):
        read(text, tmp_path)


def test_every_setting_is_described():
    for key, setting in SETTINGS.items():
        table, _, name = key.partition(".")
        own = SCHEMA["properties"][table]["properties"][
            "seeds" if name == "seed" and table == "train" else name
        ]
        assert setting.meaning[1:] in own["description"] or key == "train.seed"
        if isinstance(setting.default, bool | int | float | str) and key != "train.seed":
            assert own["default"] == setting.default
    assert SCHEMA["properties"]["loss"]["properties"]["period"]["description"] == (
        "T: optimiser steps of one pulse. Allowed: a whole number of steps ≥ 1, at most "
        "9007199254740992. "
        'Applies where loss.kind = "dynamical".'
    )


def test_documented_grids_are_valid():
    """The README's first grid as it stands, and its later tables as additions to it."""
    grid = {}
    for block in Path("README.md").read_text(encoding="utf-8").split("```toml\n")[1:]:
        tables = tomllib.loads(block.partition("```")[0])
        VALIDATOR.validate(grid | tables)
        grid = grid or tables
    assert grid
