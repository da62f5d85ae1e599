"""Recalls of each class, as a run stores them: every row once, whoever trains and stores it."""

import json

import duckdb
import numpy as np
import pandas as pd
import pytest

import tiltcli
from helpers import write_grid
from test_scores import recall
from tiltcli.data import dataset_of
from tiltcli.engines import Context, Interrupted, Snapshot, load_engine
from tiltcli.engines.base import Block
from tiltcli.errors import UserError
from tiltcli.grid import parse_sweep
from tiltcli.store import spool

GRID = """
[data]
kind = "file"
path = "points.npz"
[model]
width = 4
[loss]
kind = "static"
[train]
epochs = 12
batch_size = 16
lr = 0.3
log_every = 5
recall = true
seeds = 2
"""
NAMES = ["hill", "plain", "sea"]
EPOCHS = [0, 5, 10, 12]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Named classes of unequal sizes; the test part lacks one."""
    path = tmp_path_factory.mktemp("points")
    rng = np.random.default_rng(0)
    arrays = {}
    for end, sizes in (("", (40, 12, 5)), ("_val", (9, 3, 2)), ("_test", (8, 0, 3))):
        y = np.repeat(NAMES, sizes)
        shift = np.repeat([0.0, 1.0, 2.0], sizes)[:, None]
        arrays |= {f"X{end}": rng.normal(size=(len(y), 2)) + shift, f"y{end}": y}
    np.savez(path / "points.npz", **arrays)
    np.savez(path / "train.npz", **{key: arrays[key] for key in ("X", "y", "X_test", "y_test")})
    return path


@pytest.fixture(scope="module")
def whole(folder):
    tiltcli.sweep(write_grid(folder, GRID), results=folder / "whole", workers=0)
    return tiltcli.read("grid", folder / "whole")


@pytest.mark.parametrize("engine", ["fused", "torch"])
def test_stored_recalls_are_a_recount(folder, whole, tmp_path, engine):
    found = whole
    if engine == "torch":
        tiltcli.sweep(folder / "grid.toml", results=tmp_path, engine="torch", workers=0)
        found = tiltcli.read("grid", tmp_path)
    wanted = []
    jobs = parse_sweep(GRID, name="grid", folder=folder).jobs
    for job in sorted(jobs, key=lambda one: one.id):
        data = dataset_of(job)
        events = load_engine(engine)(job, data, Context(snapshots=EPOCHS, device="cpu"))
        thetas = {one.epoch: one.theta for one in events if isinstance(one, Snapshot)}
        for epoch in EPOCHS:
            for part in ("train", "val", "test") if epoch == 12 else ("train", "val"):
                own = data.parts[part]
                each = recall(thetas[epoch], own.X, own.y, job, 3)
                wanted += [(job.id, epoch, part, *one) for one in zip(NAMES, each, strict=True)]
    wanted = pd.DataFrame(wanted, columns=["job", "epoch", "part", "class", "recall"]).dropna()
    keys = ["job", "part", "class"]
    plain = found.recall.astype(dict.fromkeys(keys, object))
    pd.testing.assert_frame_equal(plain, wanted.reset_index(drop=True), check_dtype=False)
    means = plain[plain["part"] == "train"].groupby(["job", "epoch"])["recall"].mean()
    kept = found.metrics.set_index(["job", "epoch"])["train_balanced_accuracy"]
    np.testing.assert_allclose(means, kept, rtol=0, atol=1e-14)


def test_figure_has_a_panel_per_cell_and_a_line_per_class(tmp_path):
    text = '[data]\nkind = "spiral"\npoints_per_class = 8\n[model]\nwidth = [3, 5]\n[loss]\n'
    text += 'kind = ["static", "dynamical"]\namplitude = [4]\nperiod = [5]\n'
    text += "[train]\nepochs = 15\nlog_every = 5\nseeds = 3\n"
    grid = write_grid(tmp_path, text + "recall = true\n")
    tiltcli.sweep(grid, results=tmp_path, workers=0)
    panels = tiltcli.plot("recall", "grid", results=tmp_path, metric="val_recall").axes
    titles = [f"width {width}: {cell}" for width in (3, 5) for cell in ("static", "A 4, T 5")]
    assert [panel.get_title() for panel in panels] == titles
    found = tiltcli.read("grid", tmp_path)
    rows = found.recall.merge(found.jobs[["job", "model.width", "loss.kind"]], on="job")
    own = rows[rows["model.width"].eq(5) & rows["loss.kind"].eq("dynamical")]
    means = own[own["part"] == "val"].pivot_table("recall", "class", "epoch", observed=True)
    drawn = {line.get_label(): line for line in panels[3].lines}
    assert set(drawn) == {f"class {name}" for name in means.index}
    for name, mean in means.iterrows():
        assert drawn[f"class {name}"].get_xdata().tolist() == [0, 5, 10, 15]
        np.testing.assert_allclose(drawn[f"class {name}"].get_ydata(), mean, atol=1e-12)
    with pytest.raises(UserError, match="did you mean val_recall"):
        tiltcli.plot("recall", "grid", results=tmp_path, metric="val_recal")
    tiltcli.sweep(write_grid(tmp_path, text, "none"), results=tmp_path, workers=0)
    with pytest.raises(UserError, match=r"recall = true in \[train\]"):
        tiltcli.plot("recall", "none", results=tmp_path)


@pytest.mark.parametrize("way", ["processes", "shards", "long", "again"])
def test_rows_are_the_same_whoever_stores_them(folder, whole, tmp_path, monkeypatch, way):
    options = [{"workers": 2}] if way == "processes" else [{"workers": 0}]
    if way == "shards":
        options = [{"workers": 0, "shard": f"{n}/2"} for n in (1, 2, 1)]
    elif way == "long":
        monkeypatch.setattr(spool, "SPILL_ROWS", 10)
    for one in options:
        tiltcli.sweep(folder / "grid.toml", results=tmp_path, **one)
    if way == "again":  # a file that is damaged is set aside, and its jobs run again
        (path,) = (tmp_path / "grid" / "recall").glob("*.parquet")
        path.write_bytes(path.read_bytes()[:-9])
        done = tiltcli.sweep(folder / "grid.toml", results=tmp_path, workers=0)
        assert done.before == 0
    run = tmp_path / "grid"
    pd.testing.assert_frame_equal(tiltcli.read(run).recall, whole.recall)
    count = duckdb.sql(f"select count(*) from '{run}/recall/*.parquet'").fetchall()[0][0]
    assert count == len(whole.recall)
    assert not list(run.rglob(".*.tmp"))


def test_what_is_not_asked_for_is_not_there(folder, whole, tmp_path):
    """Nor does it change a job: its id, its metrics, or what is left of it to do."""
    text = GRID.replace("recall = true", "recall = false")
    grid = write_grid(tmp_path, text.replace("points.npz", str(folder / "points.npz")))
    tiltcli.sweep(grid, results=tmp_path, workers=0)
    found = tiltcli.read("grid", tmp_path)
    assert not (tmp_path / "grid" / "recall").exists()
    assert found.recall.empty
    assert found.recall.columns.tolist() == ["job", "epoch", "part", "class", "recall"]
    pd.testing.assert_frame_equal(found.metrics, whole.metrics)
    assert tiltcli.sweep(folder / "grid.toml", results=tmp_path, workers=0).before == 2


@pytest.mark.parametrize("engine", ["fused", "torch"])
def test_without_validation_and_diverged(folder, tmp_path, engine):
    text = f'[data]\nkind = "file"\npath = "{folder}/train.npz"\n'
    text += '[model]\nwidth = 5\n[loss]\nkind = "static"\nbase = "mse"\n[train]\nepochs = 40\n'
    text += "lr = [0.1, 1e9]\nlog_every = 10\nrecall = true\n"
    grid = write_grid(tmp_path, text)
    tiltcli.sweep(grid, results=tmp_path, engine=engine, workers=0)
    found = tiltcli.read("grid", tmp_path)
    assert set(found.jobs["outcome"]) == {"completed", "diverged"}
    parts = found.recall.groupby("job", observed=True)["part"].unique()
    assert all("val" not in set(some) for some in parts)
    for row in found.jobs.to_dict("records"):
        own = found.recall[found.recall["job"] == row["job"]]
        assert own["epoch"].max() == row["epochs"]
        logged = found.metrics.loc[found.metrics["job"] == row["job"], "epoch"]
        assert sorted(own.loc[own["part"] == "train", "epoch"].unique()) == logged.tolist()
        assert own["class"].unique().tolist() == json.loads(row["labels"])


def test_a_resumed_job_has_each_row_once(folder, tmp_path):
    job = parse_sweep(GRID, name="x", folder=folder, overrides=["train.log_every=1"]).jobs[0]
    data, train = dataset_of(job), load_engine("torch")

    def rows(**surroundings):
        made, context = [], Context(device="cpu", **surroundings)
        try:
            made += [b for b in train(job, data, context) if isinstance(b, Block)]
        except Interrupted:
            return None
        made = [b for b in made if len(b.epoch)]
        return np.concatenate([b.epoch for b in made]), np.concatenate([b.recall for b in made])

    left, once = iter(range(60)), rows()
    path = tmp_path / "x.safetensors"
    assert rows(stop=lambda: next(left, None) is None, checkpoint=path) is None
    for wanted, found in zip(once, rows(checkpoint=path), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_checkpoint_without_recalls_is_good_and_not_gone_on_from(folder, tmp_path):
    more = ["train.log_every=1"]
    job = parse_sweep(GRID, name="x", folder=folder, overrides=more).jobs[0]
    more.append("train.recall=false")
    before = parse_sweep(GRID, name="x", folder=folder, overrides=more).jobs[0]
    assert before.id == job.id
    data, train, path = dataset_of(job), load_engine("torch"), tmp_path / "x.safetensors"
    left = iter(range(60))
    with pytest.raises(Interrupted):
        stop = lambda: next(left, None) is None  # noqa: E731
        list(train(before, data, Context(stop, device="cpu", checkpoint=path)))
    saved = path.read_bytes()
    blocks = train(job, data, Context(device="cpu", checkpoint=path))
    assert next(block for block in blocks if isinstance(block, Block)).epoch[0] == 0
    assert path.read_bytes() == saved and list(tmp_path.iterdir()) == [path]


def test_reports_show_the_classes(whole, folder, tmp_path):
    """As a picture beside the text, and within the page, which fetches nothing."""
    tiltcli.sweep(folder / "grid.toml", results=tmp_path, workers=0)
    tiltcli.report("grid", output=tmp_path / "report.md", results=tmp_path)
    assert "](figures/grid-recall.png)" in (tmp_path / "report.md").read_text()
    drawn = (tmp_path / "figures" / "grid-recall.png").read_bytes()
    assert drawn.startswith(b"\x89PNG")
    tiltcli.report("grid", output=tmp_path / "report.html", results=tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "<h3>Learning curves of each class</h3>" in page
    assert page.count('<img src="data:image/png;base64,') == 1
