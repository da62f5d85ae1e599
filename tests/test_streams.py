"""Streams that are closed, full or left, and texts of others that reach a terminal or a table."""

import resource
import shutil
import subprocess
from html.parser import HTMLParser
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tiltcli
from helpers import command, tilt, write_grid
from tiltcli.cli.rendering import Result, to_csv
from tiltcli.data.table_files import read_table
from tiltcli.errors import Fault, UserError
from tiltcli.evaluation.texts import Table, markdown
from tiltcli.grid import parse_sweep
from tiltcli.store.parquet import Damaged, patiently

GRID = """[data]
kind = "spiral"
points_per_class = 5
[model]
width = 3
[loss]
kind = "static"
[train]
epochs = 3
"""
FAKE = "x\x1b[2K\nerror: all is lost\x9b1A\u202e"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a run of one job."""
    folder = tmp_path_factory.mktemp("streams")
    tiltcli.sweep(write_grid(folder, GRID), results=folder / "results")
    return folder


def shell(line, cwd):
    words = " ".join(command())
    done = subprocess.run(
        ["bash", "-c", "set -o pipefail; " + line.replace("tiltcli", words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr, done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("tiltcli sweep grid.toml --set name=closed <&- >&- 2>&-", 0),
        ("tiltcli sweep grid.toml --set name=left 2>&1 | true", 0),
        ("tiltcli sweep grid.toml --set name=full 2>/dev/full", 0),
    ],
)
def test_a_sweep_goes_on_whatever_becomes_of_its_messages(folder, line, code):
    assert shell(line, folder) == (code, "")
    name = line.partition("name=")[2].split()[0]
    assert list(tiltcli.read(name, folder / "results").jobs["outcome"]) == ["completed"]


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("tiltcli runs grid >&-", 0, ""),
        ("tiltcli runs grid --format json | true", 141, ""),
        ("tiltcli runs grid >/dev/full", 2, "error: stdout: cannot be written: No space left"),
        ("tiltcli sweep - <&-", 2, "error: stdin: is empty"),
    ],
)
def test_other_commands_end_with_their_output(folder, line, code, said):
    ended, error = shell(line, folder)
    assert ended == code and error.startswith(said) and error.count("\n") == (1 if said else 0)


@pytest.mark.parametrize(
    ("words", "mebibytes"), [(["runs", "grid"], 800), (["probe", "grid", "--every", "7"], 1270)]
)
def test_little_memory_is_a_message(folder, words, mebibytes):
    """At 1270 MiB the compiler of probes aborted, with words of its own."""
    limit = mebibytes << 20
    done = subprocess.run(
        command(*words),
        cwd=folder,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2 and "not enough memory" in done.stderr
    assert "needed: 1,600 MiB, more for large runs or many cores" in done.stderr
    assert done.stderr.count("\n") == 1


def test_messages_are_one_line_without_control_characters(tmp_path):
    with pytest.raises(UserError) as error:
        parse_sweep(GRID, name="g", folder=tmp_path, overrides=[f"model.kind={FAKE}"])
    assert str(error.value).isprintable() and "\\nerror: all is lost" in str(error.value)
    assert len(str(Fault("x" * 10**6, key="k" * 10**6))) < 5000
    said = str(Fault(f"got {'x' * 10**5}; allowed: 1 to 5", key="a.b"))
    assert said.endswith("x; allowed: 1 to 5") and len(said) < 400


class Tags(HTMLParser):
    """The attributes of all tags of a page."""

    def __init__(self):
        super().__init__()
        self.attributes = []

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs


def test_a_run_may_be_called_anything(folder, tmp_path):
    """As its folder is: tags, control characters and Markdown stay text in every output."""
    name = f"<img src=x onerror=alert(1)>*{FAKE[:20]}"
    shutil.copytree(folder / "results" / "grid", tmp_path / "results" / name)
    outputs = [["report", name, "-o", "r.html"], ["report", name, "-o", "r.md"], ["runs", name]]
    for words in (*outputs, ["runs", "--format", "csv"], ["mv", name, "grid"]):
        done = tilt(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        shown = done.stdout + done.stderr
        assert shown.replace("\n", "").isprintable() and "\nerror" not in shown
    page, text = Tags(), (tmp_path / "r.md").read_text()
    page.feed((tmp_path / "r.html").read_text())
    assert not [one for one, _ in page.attributes if one.startswith("on")]
    assert "<img" not in text and "\nerror" not in text
    assert text.replace("\n", "").isprintable()


def test_names_of_classes_and_values_reach_no_terminal_raw(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.array([FAKE] * 2 + ["a"] * 10)
    np.savez(tmp_path / "d.npz", X=rng.normal(size=(12, 2)), y=labels)
    text = '[data]\nkind = "file"\npath = "d.npz"\nsplit = [0.6, 0.2, 0.2]\n'
    text += GRID.partition("points_per_class = 5\n")[2]
    write_grid(tmp_path, text)
    done = tilt("sweep", "grid.toml", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stderr[:-1].isprintable()
    (tmp_path / "made.py").write_text(
        "def make(seed, note):\n    return dict(X=[[0.0], [1.0]], y=[0, 1])\n"
    )
    own = GRID.replace(
        'kind = "spiral"\npoints_per_class = 5', 'kind = "python"\nfactory = "made.py:make"'
    )
    notes = ", ".join('"' + f"{one}{FAKE}".encode("unicode_escape").decode() + '"' for one in "ab")
    notes = notes.replace("\\x1b", "\\u001b").replace("\\x9b", "\\u009b")
    write_grid(tmp_path, own + f"[data.args]\nnote = [{notes}]\n")
    for words in (["sweep", "grid.toml", "--dry-run"], ["sweep", "grid.toml"], ["runs", "grid"]):
        done = tilt(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        shown = (done.stdout + done.stderr).replace("\n", "")
        assert shown.isprintable() and "error: all is lost" in shown
        assert "\nerror" not in done.stdout + done.stderr


def test_many_rare_classes_are_a_short_message(tmp_path):
    labels = np.repeat(np.arange(9000), 2)
    np.savez(tmp_path / "d.npz", X=np.ones((len(labels), 1)), y=labels)
    text = '[data]\nkind = "file"\npath = "d.npz"\nsplit = [0.6, 0.2, 0.2]\n'
    write_grid(tmp_path, text + GRID.partition("points_per_class = 5\n")[2])
    done = tilt("sweep", "grid.toml", cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr) < 3000
    assert "and 8,994 classes more have too few samples" in done.stderr


def test_a_mark_of_the_encoding_is_taken(tmp_path):
    (tmp_path / "bom.toml").write_bytes(b"\xef\xbb\xbf" + GRID.encode())
    assert tilt("sweep", "bom.toml", "--dry-run", cwd=tmp_path).returncode == 0


def test_formulas_in_csv_are_texts():
    given = ["=cmd|' /C calc'!A0", "+x", "-x", "@x", " =x", "-1.5", "+2e3", "x=1", -1.5, None]
    result = Result("x", {}, ["a"], [{"a": one} for one in given])
    lines = to_csv(result).splitlines()[1:]
    assert to_csv(Result("x", {}, ["a"], [{"a": FAKE}])).count("\n") == 2
    assert lines == ["'" + str(x) for x in given[:5]] + ["-1.5", "+2e3", "x=1", "-1.5", '""']


def test_markdown_cells_stay_cells():
    table = Table("t", ("a",), (("x\n\n# Fake | y",),))
    assert "x\\n\\n# Fake \\| y" in markdown((), [table], ())


@pytest.mark.parametrize("said", ["Failed to launch worker thread: x", "Unable to allocate 1 GiB"])
def test_a_part_that_memory_was_short_for_is_not_damaged(tmp_path, said):
    def read():
        raise pa.ArrowException(said)

    with pytest.raises(UserError, match="not enough memory; it was left as it is") as error:
        patiently(tmp_path / "0.parquet", read)
    assert not isinstance(error.value, Damaged)


def test_tables_of_too_many_rows_or_columns(tmp_path):
    """Said from the header or the footer, before a row is read."""
    wide = tmp_path / "wide.csv"
    wide.write_text(",".join(f"c{n}" for n in range(200_000)) + ",y\n")
    with pytest.raises(UserError, match="200,001 columns; at most 100,000"):
        read_table(wide, "y")
    long = tmp_path / "long.parquet"
    zeros = pa.array(np.zeros(10**6, dtype=np.int8))
    schema = pa.schema([("x", pa.int8()), ("y", pa.int8())])
    with pq.ParquetWriter(long, schema) as writer:
        for _ in range(4):
            writer.write_table(pa.table({"x": zeros, "y": zeros}))
    with (
        mock.patch("tiltcli.data.limits.most_bytes", lambda: 400 << 20),
        pytest.raises(UserError, match="its table of 4,000,000 rows would take"),
    ):
        read_table(long, "y")
