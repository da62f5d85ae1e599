"""Weights of trained networks: kept, killed and resumed, loaded, exported; they take raw rows."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits

import tiltcli
from helpers import GRID, tilt, write_grid
from tiltcli.errors import UserError
from tiltcli.execution.train_job import Task, train_job
from tiltcli.grid import load_sweep
from tiltcli.store.weights import METADATA

EXAMPLES = Path("tests/examples").resolve()
TABLE = """
[data]
kind = "file"
path = "train.csv"
val_path = "val.csv"
test_path = "test.csv"
target = "label"
standardize = true
categorical = "onehot"
missing = "median"
[model]
width = 8
[loss]
kind = ["static", "dynamical"]
amplitude = 3
period = 20
[train]
epochs = 60
lr = 0.5
seeds = 2
log_every = 5
keep = "final"
"""
RESNET = """
[data]
kind = "digits"
[model]
kind = "python"
factory = "nets.py:resnet"
width = 2
[model.args]
dropout = 0.3
[loss]
amplitude = 4
period = 7
[train]
epochs = 3
batch_size = 100
lr = 0.05
momentum = 0.9
log_every = 1
keep = "KEEP"
"""


def messy(rows, seed):
    """Numbers with gaps, texts with gaps and one that is new in every table, on other scales."""
    random = np.random.default_rng(seed)
    good = random.random(rows) < 0.4
    table = pd.DataFrame(
        {
            "weight": random.normal(1000, 50, rows) + 40 * good,
            "colour": np.where(good, *random.choice(["red", "blue", "green"], (2, rows))),
            "age": random.integers(1, 90, rows).astype(float),
            "idle": 7,
            "label": np.where(good, "good", "bad"),
        }
    )
    table.loc[random.random(rows) < 0.2, "age"] = np.nan
    table.loc[good & (random.random(rows) < 0.8), "colour"] = "red"
    table.loc[random.random(rows) < 0.1, "colour"] = None
    table.loc[3, "colour"] = f"seen in {seed} alone"
    return table


@pytest.fixture
def tables(tmp_path):
    made = {part: messy(90, seed) for seed, part in enumerate(("train", "val", "test"))}
    for part, table in made.items():
        table.to_csv(tmp_path / f"{part}.csv", index=False)
    return tmp_path, made


@pytest.mark.parametrize("engine", ["fused", "torch"])
@pytest.mark.parametrize("keep", ["final", "best"])
def test_accuracy_of_raw_rows_is_the_stored_one(tables, engine, keep):
    folder, made = tables
    grid = write_grid(folder, TABLE.replace('"final"', f'"{keep}"'))
    tiltcli.sweep(grid, results=folder / "results", engine=engine, workers=0)
    found = tiltcli.read("grid", folder / "results")
    assert len(found.jobs) == 4 and set(found.jobs["engine"]) == {engine}
    for part in made:  # what is kept needs no data
        (folder / f"{part}.csv").unlink()
    for row in found.jobs.itertuples():
        model = tiltcli.load("grid", row.job, results=folder / "results")
        metrics = found.metrics[found.metrics["job"] == row.job]
        for part, table in made.items():
            shuffled = table.drop(columns="label")[["age", "idle", "colour", "weight"]]
            right = float((model.predict(shuffled) == table["label"]).mean())
            if keep == "final":
                assert right == getattr(row, f"{part}_accuracy")
            elif part == "val":
                assert right == metrics["val_accuracy"].max()
    with pytest.raises(UserError, match="lacks columns that training had: colour"):
        model.predict(made["val"].drop(columns="colour"))


@pytest.mark.parametrize("engine", ["fused", "torch"])
@pytest.mark.parametrize("batch_size", ["full", 16])
@pytest.mark.parametrize("kept", [True, False])
def test_a_diverged_job_has_the_best_of_the_epochs_before(tables, engine, batch_size, kept):
    """A rate so large that the state in which it diverges is sometimes the best one measured."""
    folder, made = tables
    given = ["train.lr=[12.0, 15.0, 60.0, 1e30]"]
    given += [f"train.batch_size={json.dumps(batch_size)}", "train.log_every=1"]
    grid = write_grid(folder, TABLE.replace('"final"', '"best"'))
    results = folder / "results"
    tiltcli.sweep(grid, results=results, engine=engine, workers=0, overrides=given)
    found = tiltcli.read("grid", results)
    jobs, metrics = found.jobs, found.metrics
    assert "failed" not in set(jobs["outcome"])
    diverged = jobs[jobs["outcome"] == "diverged"]
    assert len(diverged)
    if not kept:
        shutil.rmtree(results / "grid" / "weights", ignore_errors=True)
    for row in diverged.itertuples():
        own = metrics[metrics["job"].eq(row.job) & metrics["epoch"].lt(row.epochs)]
        if own.empty:
            with pytest.raises(UserError, match=r"diverged at epoch 0.*no weights of its end"):
                tiltcli.load("grid", row.job, results=results)
            continue
        model = tiltcli.load("grid", row.job, results=results)
        said = model.predict(made["val"].drop(columns="label"))
        assert float((said == made["val"]["label"]).mean()) == own["val_accuracy"].max()


def test_files_that_others_read(tables):
    """Predictions by torch.export and ONNX's runtime of codes and NaN, without this package."""
    folder, made = tables
    write_grid(folder, TABLE)
    tiltcli.sweep(folder / "grid.toml", results=folder / "results", workers=0)
    for end in ("pt2", "onnx", "safetensors"):
        done = tilt("export", "grid", "--best", "val_accuracy", "-o", f"m.{end}", cwd=folder)
        assert done.returncode == 0, done.stderr
        assert done.stderr.startswith(f"written: m.{end}: job ")
    jobs = tiltcli.read("grid", folder / "results").jobs
    row = jobs.loc[jobs["val_accuracy"].idxmax()]
    extra = {METADATA: ""}
    program = torch.export.load(folder / "m.pt2", extra_files=extra).module()
    session = onnxruntime.InferenceSession(folder / "m.onnx")
    facts = json.loads(extra[METADATA])
    assert json.loads(session.get_modelmeta().custom_metadata_map[METADATA]) == facts
    assert facts["job"] == row["job"] and facts["settings"]["model.width"] == 8
    for part, table in made.items():
        coded = np.empty((len(table), len(facts["encoding"])))
        for at, one in enumerate(facts["encoding"]):
            column = table[one["column"]]
            if "categories" in one:
                kinds = one["categories"]
                texts = [None if pd.isna(text) else text for text in column]
                column = [kinds.index(text) if text in kinds else -1 for text in texts]
            coded[:, at] = column
        for rows in (coded, coded[:1]):
            logits = program(torch.from_numpy(rows)).detach().numpy()
            (other,) = session.run(None, {"inputs": rows})
            np.testing.assert_allclose(other, logits, rtol=1e-5, atol=1e-6)
        right = np.array(facts["labels"])[program(torch.from_numpy(coded)).argmax(dim=1)]
        assert float((right == table["label"]).mean()) == row[f"{part}_accuracy"]


@pytest.mark.parametrize("keep", ["final", "best"])
def test_a_resnet_killed_and_resumed_keeps_the_same_bits(tmp_path, keep):
    shutil.copy(EXAMPLES / "nets.py", tmp_path)
    job = load_sweep(write_grid(tmp_path, RESNET.replace("KEEP", keep))).jobs[0]
    kept = []
    for name in ("whole", "cut"):
        (tmp_path / name / "metrics").mkdir(parents=True)
        save = tmp_path / name / "checkpoint.safetensors" if name == "cut" else None
        task = Task(job, "torch", tmp_path / name / "metrics", checkpoint=save, device="cpu")
        done, attempts = None, 0
        while done is None:
            asked = iter(range(4 + 3 * attempts))
            done = train_job(task, lambda: name == "cut" and next(asked, None) is None)  # noqa: B023
            attempts += 1
        assert done.row["outcome"] == "completed"
        assert attempts > 2 or name == "whole"
        kept.append((tmp_path / name / "weights" / f"{job.id}.safetensors").read_bytes())
    assert kept[0] == kept[1]


def test_a_resnet_swept_loaded_and_exported(tmp_path):
    shutil.copy(EXAMPLES / "nets.py", tmp_path)
    write_grid(tmp_path, RESNET.replace("KEEP", "final") + 'dtype = "float64"\n')
    assert tilt("sweep", "grid.toml", "--workers", 0, cwd=tmp_path).returncode == 0
    digits, row = load_digits(), tiltcli.read("grid", tmp_path / "results").jobs.iloc[0]
    model = tiltcli.load(tmp_path / "results" / "grid")
    assert not model.training
    found = model.predict(digits.data)  # flat, as scikit-learn has them
    np.testing.assert_array_equal(found, model.predict(digits.images[:, None]))
    # Every picture is in one of the parts, of 60, 20 and 20 per cent.
    shares = {"train": row["train_samples"]} | dict.fromkeys(("val", "test"), 0)
    shares["val"] = shares["test"] = (1797 - shares["train"]) / 2
    right = sum(row[f"{part}_accuracy"] * size for part, size in shares.items())
    assert (found == digits.target).sum() == pytest.approx(right, abs=0.6)
    for end in ("pt2", "onnx"):
        done = tilt("export", "grid", "-o", f"m.{end}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert ("in float32" in done.stderr) == (end == "onnx")
    X = digits.images[:20, None]
    wanted = model.logits(X)
    found = torch.export.load(tmp_path / "m.pt2").module()(torch.from_numpy(X))
    np.testing.assert_allclose(found.detach().numpy(), wanted, atol=1e-9)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    np.testing.assert_allclose(session.run(None, {"inputs": X})[0], wanted, atol=1e-4)


@pytest.mark.parametrize("engine", ["fused", "torch"])
def test_without_weights_the_job_is_trained_again(tmp_path, engine):
    text = GRID.replace("seeds = 3", "seeds = 1").replace(
        "epochs = 200", 'epochs = 200\nkeep="final"'
    )
    write_grid(tmp_path, text)
    for shard in ("1/2", "2/2"):
        tiltcli.sweep(
            tmp_path / "grid.toml", results=tmp_path, engine=engine, workers=0, shard=shard
        )
    job = tiltcli.read("grid", tmp_path).jobs["job"].iloc[-1]
    X = np.random.default_rng(0).normal(size=(30, 2))
    kept = tiltcli.load("grid", job, results=tmp_path).logits(X)
    path = tmp_path / "grid" / "weights" / f"{job}.safetensors"
    content = path.read_bytes()
    path.unlink()
    np.testing.assert_array_equal(tiltcli.load("grid", job, results=tmp_path).logits(X), kept)
    path.write_bytes(content[:-8])
    with pytest.raises(UserError, match=f"{path.name}: cannot be read"):
        tiltcli.load("grid", job, results=tmp_path)


def test_keeping_makes_no_other_jobs(tmp_path):
    ids = []
    for keep in ("none", "final", "best"):
        text = GRID.replace("epochs = 200", f'epochs = 200\nkeep = "{keep}"')
        grid = write_grid(tmp_path, text)
        ids.append([job.id for job in load_sweep(grid).jobs])
        done = tilt("sweep", "grid.toml", "--workers", 0, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert ids[0] == ids[1] == ids[2]
    assert ids[0] == [job.id for job in load_sweep(write_grid(tmp_path, GRID)).jobs]
    assert not (tmp_path / "results" / "grid" / "weights").exists()
    plain = write_grid(tmp_path, GRID + 'keep = "best"\n', "plain")
    plain.write_text(plain.read_text().replace('kind = "spiral"', 'kind = "file"\npath = "x.npz"'))
    np.savez(tmp_path / "x.npz", X=np.eye(4), y=[0, 1, 0, 1])
    done = tilt("sweep", "plain.toml", cwd=tmp_path)
    assert done.returncode == 2 and 'got "best", and there is no validation part' in done.stderr


def test_faults_of_export(tmp_path, monkeypatch):
    write_grid(tmp_path)
    assert tilt("sweep", "grid.toml", "--workers", 0, cwd=tmp_path).returncode == 0
    for words, said in (
        (["-o", "m.bin"], "a file that ends in .safetensors, .pt2, .onnx"),
        (["-o", "m.pt2"], "--best"),
        (["-o", "no/m.pt2"], "there is no folder no"),
        (["-o", "m.pt2", "--best", "val_acuracy"], "did you mean val_accuracy"),
        (["-o", "m.pt2", "--job", "zz"], "no job zz"),
    ):
        done = tilt("export", "grid", *words, cwd=tmp_path)
        assert done.returncode == 2 and said in done.stderr, done.stderr
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    done = tilt("export", "grid", "--best", "val_accuracy", "-o", "m.onnx", cwd=tmp_path)
    assert done.returncode == 2 and "pip install 'tiltcli[onnx]'" in done.stderr, done.stderr
    assert not list(tmp_path.glob("*m.*"))
