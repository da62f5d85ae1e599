"""Options that several commands share, and the one renderer of their results."""

import csv
import io
import json

import pytest

from helpers import tilt, write_grid
from tiltcli.cli import options
from tiltcli.cli.rendering import Result, to_csv, to_json, to_markdown
from tiltcli.engines import NAMES
from tiltcli.engines.torch.devices import DEVICES
from tiltcli.evaluation.texts import Table
from tiltcli.plots.style import SIZES, STYLES


def test_choices_are_those_of_the_library():
    assert [*options.EngineName] == [*NAMES]
    assert [*options.Device] == [*DEVICES]
    assert [*options.Size] == [*SIZES]
    assert [*options.Style] == [*STYLES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("options")
    grid = write_grid(path)
    grid.write_text(grid.read_text().replace("epochs = 200", "epochs = 20"))
    assert tilt("sweep", "grid.toml", cwd=path).returncode == 0
    return path


COMMANDS = {
    "runs": ["runs"],
    "one run": ["runs", "grid"],
    "compare": ["compare", "grid@loss.kind=static", "grid@loss.kind=dynamical"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_form_of_every_command(folder, name):
    words = COMMANDS[name]
    said = {form: tilt(*words, "--format", form, cwd=folder) for form in options.Format}
    assert all(one.returncode == 0 for one in said.values())
    page = json.loads(said["json"].stdout)
    assert list(page)[:2] == ["format", "command"]
    assert (page["format"], page["command"]) == (1, words[0])
    rows = list(csv.DictReader(io.StringIO(said["csv"].stdout)))
    expected = page.get("rows") or page.get("runs") or [page]
    assert len(rows) == len(expected)
    for row, one in zip(rows, expected, strict=True):
        assert row and set(row) <= set(one)
        for key, text in row.items():
            assert text == ("" if one[key] is None else str(one[key]))
    assert "|" in said["markdown"].stdout or said["markdown"].stdout.count("\n- ") > 3


def test_what_is_missing_is_null_or_empty():
    facts = {"rows": [{"a": float("nan"), "b": (1, 2.5)}]}
    result = Result("it", facts, ["a", "c"], [{"a": float("nan"), "b": 1, "c": "x,y"}])
    assert json.loads(to_json(result)) == {
        "format": 1,
        "command": "it",
        "rows": [{"a": None, "b": [1, 2.5]}],
    }
    assert to_csv(result) == 'a,c\n,"x,y"\n'


def test_markdown_of_lines_tables_and_notes():
    table = Table("title", ("x", "y"), (("1|2", "3"),))
    result = Result("it", {}, [], [], ["head", "  item"], [table], notes=["a note"])
    assert to_markdown(result).splitlines() == [
        "head",
        "- item",
        "",
        "**title**",
        "",
        "| x | y |",
        "| --- | --- |",
        "| 1\\|2 | 3 |",
        "",
        "- a note",
    ]
