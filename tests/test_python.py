"""From Python and in notebooks: objects for grids, progress, what results say of themselves."""

import io
import pydoc
import sys
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient

import tiltcli
from tiltcli.api import sweeping
from tiltcli.execution.progress import Progress

GRID = {
    "name": "tiny",
    "data": {"kind": "spiral", "points_per_class": 10},
    "model": {"width": [3, 5]},
    "loss": {"kind": ["static", "dynamical"], "amplitude": 3, "period": 20},
    "train": {"epochs": 60, "seeds": 5},
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("python")
    tiltcli.sweep(GRID, results=folder)
    return folder


def test_help_opens_with_the_public_names():
    opening = pydoc.render_doc(tiltcli, renderer=pydoc.plaintext).partition("PACKAGE CONTENTS")[0]
    for name in tiltcli.__all__:
        assert name in opening, name
        assert getattr(tiltcli, name).__doc__
    assert {name for names in tiltcli._HOMES.values() for name in names} == set(tiltcli.__all__)


def test_objects_of_numpy_and_pandas_are_the_same_grid(results, tmp_path):
    objects = {
        **GRID,
        "data": pd.Series({"kind": "spiral", "points_per_class": np.int64(10)}).to_dict(),
        "model": {"width": np.array([3, 5])},
        "loss": {"kind": ("static", "dynamical"), "amplitude": np.float64(3), "period": 20},
        "train": {"epochs": np.uint16(60), "seeds": pd.Series(range(5))},
    }
    tiltcli.sweep(objects, results=tmp_path)
    one, other = (tiltcli.read("tiny", place).jobs for place in (results, tmp_path))
    assert list(one["job"]) == list(other["job"])


def test_a_frame_and_arrays_are_data(tmp_path):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.normal(size=(60, 2)), columns=["a", "b"])
    labels = np.arange(60) % 3
    own = {"kind": "file", "path": frame.assign(kind=labels), "target": "kind"}
    arrays = {"kind": "file", "path": {"X": frame.to_numpy(), "y": labels}}
    losses = []
    for name, data in (("frame", own), ("arrays", arrays)):
        done = tiltcli.sweep({**GRID, "name": name, "data": data}, results=tmp_path)
        assert done.ended == {"completed": 20}
        losses.append(list(tiltcli.read(name, tmp_path).jobs["train_loss"]))
    assert losses[0] == losses[1]
    again = tiltcli.sweep({**GRID, "name": "frame", "data": own}, results=tmp_path)
    assert again.before == 20  # the same content is the same data
    other = {**own, "path": frame.assign(kind=labels[::-1])}
    with pytest.raises(tiltcli.UserError, match="another grid"):
        tiltcli.sweep({**GRID, "name": "frame", "data": other}, results=tmp_path)


def test_faults_name_their_path_and_nothing_is_written(tmp_path):
    frame = pd.DataFrame({"a": [1.0, 2.0], "kind": [0, 1]})
    wrong = {
        **GRID,
        "data": {"kind": "file", "path": frame, "target": "kind"},
        "train": {"epochs": -1, "sedes": 3},
        "also": [{"model": {"width": [0]}}],
    }
    with pytest.raises(tiltcli.UserError) as caught:
        tiltcli.sweep(wrong, results=tmp_path)
    said = str(caught.value)
    assert "line" not in said
    for start in ("train.epochs: got -1", "train.sedes: unknown", "also[0].model.width: got 0"):
        assert f"\n{start}" in f"\n{said}"
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    with pytest.raises(tiltcli.UserError) as caught:
        tiltcli.sweep({**GRID, "train": {"epochs": None, "lr": [0.1, object()]}, "model": frame})
    said = str(caught.value)
    for start in ("train.epochs: got None", "train.lr[1]: got a object", "model: got a DataFrame"):
        assert f"\n{start}" in f"\n{said}"


def test_texts_are_short_and_pages_escaped(results):
    tables = tiltcli.read("tiny", results)
    sides = ("tiny@loss.kind=static", "tiny@loss.kind=dynamical")
    found = tiltcli.compare(*sides, results=results)
    done = tiltcli.sweep(GRID, results=results)
    shapes = [f"{one.shape[0]} × {one.shape[1]}" for one in (tables.jobs, tables.metrics)]
    assert repr(tables) == (
        f"<tiny: jobs {shapes[0]}, metrics {shapes[1]}, probes 0 × {tables.probes.shape[1]}>"
    )
    assert "20 jobs: 20 done before" in repr(done)
    assert repr(found).startswith(f"<{sides[1]} − {sides[0]}: 2 rows; train_accuracy: ")
    for one in (tables, found, done):
        assert len(repr(one)) < 200 and "\n" not in repr(one)
        assert "<tiny" not in one._repr_html_()
    assert "model.width" in tables._repr_html_() and "data.kind" not in tables._repr_html_()
    assert "p_corrected" in found._repr_html_()


def test_runs_plot_confirm_and_report(results, tmp_path):
    listed = tiltcli.runs(results)
    assert listed.loc[listed["name"] == "tiny", "done"].item() == 20
    figure = tiltcli.plot("phase", "tiny", results=results, output=tmp_path / "phase.png")
    assert (tmp_path / "phase.png").stat().st_size > 10_000
    assert figure._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(tiltcli.UserError, match="did you mean phase"):
        tiltcli.plot("phases", "tiny", results=results)
    with pytest.raises(tiltcli.UserError, match="draws 1 run, not 0"):
        tiltcli.plot("phase", results=results)
    grid = tiltcli.confirm("tiny", results=results, seeds=6, output=tmp_path / "confirm.toml")
    done = tiltcli.sweep(grid, results=results)
    assert done.total == 2 * 2 * 6
    assert tiltcli.sweep(tmp_path / "confirm.toml", results=results).before == 24
    page = tiltcli.report("tiny", "tiny-confirm", results=results, output=tmp_path / "report.md")
    assert "## Verdicts" in page.read_text()


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("wanted", [None, True, False])
@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_shown_where_somebody_looks(wanted, terminal, monkeypatch):
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "30")
    far = Progress(total=4)
    with sweeping.metered(far, "run", wanted):
        far.ended["completed"] = 3
    said = stream.getvalue()
    assert ("run: 3/4 jobs" in said) == (wanted is True or (wanted is None and terminal))
    if said and terminal:
        last = said.rstrip("\n").rpartition("\x1b[K")[2]
        assert len(last) < 30  # else it would wrap, and not be written over


def test_progress_in_a_notebook_is_one_output(monkeypatch):
    shown = []
    handle = SimpleNamespace(update=lambda page: shown.append(page.data))
    from IPython import display

    monkeypatch.setattr(sweeping, "_in_notebook", lambda: True)
    monkeypatch.setattr(display, "display", lambda page, display_id: handle)
    with sweeping.metered(Progress(total=2, before=1), "<b>", None):
        pass
    assert shown[-1].startswith('<progress value="0.500" max="1"></progress> &lt;b&gt;: 1/2 jobs')


def test_the_example_notebook_runs(tmp_path):
    notebook = nbformat.read("docs/example.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = [set(output["data"]) for output in outputs if "data" in output]
    assert sum("image/png" in kind for kind in kinds) == 2
    assert sum("text/html" in kind for kind in kinds) == 7  # two bars, two sweeps, three tables
    bars = [o["data"]["text/html"] for o in outputs if "<progress" in str(o.get("data"))]
    assert len(bars) == 2 and all("60/60 jobs" in b or "32/32 jobs" in b for b in bars)
