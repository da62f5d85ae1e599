"""NumPy ≡ fused ≡ torch ≡ the reference, through the command's own path."""

import numpy as np
import pytest

import tiltcli
from helpers import save_case
from oracle import descend
from tiltcli.errors import UserError
from tiltcli.schedule import Schedule

ENGINES = ["fused", "torch"]


def run(folder, engine, epochs, width, loss, **train):
    grid = {
        "name": engine,
        "data": {"kind": "file", "path": str(folder / "data.npz")},
        "model": {"width": width, "init_file": str(folder / "weights.npz")},
        "loss": loss,
        "train": {"epochs": epochs, "log_every": 1, "dtype": "float64"} | train,
    }
    summary = tiltcli.sweep(grid, results=folder / "results", engine=engine, workers=0)
    assert not summary.failures
    return tiltcli.read(engine, folder / "results")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("name", "loss", "indices"),
    [
        ("run_a", {"amplitude": 70, "period": 5000, "rest": 1}, 4500),
        ("run_b", {"amplitude": 20, "period": 500, "rest": 1}, 6000),
    ],
)
def test_reference_trajectories(tmp_path, engine, name, loss, indices):
    """The authors' semantics, over the span that chaos allows; index i is epoch i + 1."""
    with np.load(f"tests/data/{name}.npz") as reference:
        save_case(tmp_path, *(reference[k] for k in ("X", "y", "W1", "b1", "W2", "b2")))
        tables = run(tmp_path, engine, indices, len(reference["b1"]), loss)
        rows = tables.metrics
        assert rows["epoch"].tolist() == list(range(indices + 1))
        rows = rows.iloc[1:]
        assert np.abs(rows["train_loss"] - reference["loss"][:indices]).max() < 1e-9
        assert np.abs(rows["dynamical_loss"] - reference["weighted_loss"][:indices]).max() < 1e-9
        correct = np.rint(rows["train_accuracy"] * 300).astype(int)
        np.testing.assert_array_equal(correct, reference["n_correct"][:indices])
    job = tables.jobs.iloc[0]
    assert job["train_loss"] == rows["train_loss"].iloc[-1]
    assert np.isnan(job["val_accuracy"])
    assert rows["val_loss"].isna().all()


def case(folder, P, D, C, W, seed=0):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(P, D)), rng.integers(0, C, P)
    y[:C] = np.arange(C)
    weights = [rng.normal(size=s) * 0.5 for s in ((D, W), (W,), (W, C), (C,))]
    X_val, y_val = rng.normal(size=(11, D)), rng.integers(0, C, 11)
    save_case(folder, X, y, *weights, X_val=X_val, y_val=y_val, X_test=X[:7], y_test=y[:7])
    return X, y, np.concatenate([w.ravel() for w in weights]), X_val, y_val


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("P", "D", "C", "W"), [(61, 5, 4, 7), (40, 2, 2, 1), (33, 20, 10, 18)])
@pytest.mark.parametrize("shape", ["triangle", "square"])
def test_other_sizes_against_numpy(tmp_path, engine, P, D, C, W, shape):
    X, y, theta, X_val, y_val = case(tmp_path, P, D, C, W)
    loss = {"amplitude": 6.0, "period": 9, "rest": 2, "settle": 50, "shape": shape}
    tables = run(tmp_path, engine, 120, W, loss, lr=0.2)
    gammas = Schedule(C, 6.0, 9, 2, 70, shape).gamma(np.arange(121))
    expected, _ = descend(theta, X, y, W, gammas, 0.2)
    rows = tables.metrics
    assert np.abs(rows["train_loss"] - expected[:, 0]).max() < 1e-9
    assert np.abs(rows["dynamical_loss"] - expected[:, 1]).max() < 1e-9
    np.testing.assert_allclose(rows["train_accuracy"] * P, expected[:, 2], atol=1e-9)
    at_start, _ = descend(theta, X_val, y_val, W, np.ones((1, C)), 0.0)
    assert rows["val_loss"].iloc[0] == pytest.approx(at_start[0, 0], abs=1e-12)
    assert rows["val_accuracy"].iloc[0] == pytest.approx(at_start[0, 2] / 11)
    job = tables.jobs.iloc[0]
    assert job["parameters"] == len(theta)
    assert job["test_accuracy"] >= 0


@pytest.mark.parametrize("engine", ENGINES)
def test_static_is_amplitude_one(tmp_path, engine):
    case(tmp_path, 50, 2, 3, 5)
    static = run(tmp_path, engine, 60, 5, {"kind": "static"}).metrics
    (tmp_path / "results" / engine).rename(tmp_path / "results" / "other")
    flat = run(tmp_path, engine, 60, 5, {"amplitude": 1, "period": 7}).metrics
    assert static["train_loss"].tolist() == flat["train_loss"].tolist()
    assert static["dynamical_loss"].tolist() == static["train_loss"].tolist()


@pytest.mark.parametrize("engine", ENGINES)
def test_learning_rate_schedule(tmp_path, engine):
    X, y, theta, *_ = case(tmp_path, 30, 2, 3, 4)
    pairs = [[0.0, 0.0], [0.5, 1.0], [1.0, 0.1]]
    rows = run(tmp_path, engine, 10, 4, {"kind": "static"}, lr=0.4, lr_schedule=pairs).metrics
    factors = [0, 0.2, 0.4, 0.6, 0.8, 1, 0.82, 0.64, 0.46, 0.28, 0.1]
    np.testing.assert_allclose(rows["lr"], 0.4 * np.array(factors))
    for step, factor in enumerate(factors[:-1]):
        expected, theta = descend(theta, X, y, 4, np.ones((1, 3)), 0.4 * factor)
        assert rows["train_loss"].iloc[step] == pytest.approx(expected[0, 0], abs=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
def test_divergence_ends_the_job_and_nothing_else(tmp_path, engine):
    case(tmp_path, 30, 2, 3, 4)
    tables = run(tmp_path, engine, 500, 4, {"kind": "static"}, lr=[0.1, 1e12], log_every=100)
    diverged, completed = (
        tables.jobs[tables.jobs["outcome"] == o].iloc[0] for o in ("diverged", "completed")
    )
    assert completed["train.lr"] == 0.1
    assert completed["epochs"] == 500
    assert 1 <= diverged["epochs"] < 500
    assert f"diverged at epoch {diverged['epochs']}" in diverged["error"]
    last = tables.metrics[tables.metrics["job"] == diverged["job"]].iloc[-1]
    assert last["epoch"] == diverged["epochs"]
    assert not last["train_loss"] <= 1e6


def test_engines_agree_on_drawn_weights_and_validation(tmp_path):
    frames = {}
    for engine in ENGINES:
        grid = {
            "name": engine,
            "data": {"kind": "spiral"},
            "model": {"width": 12},
            "loss": {"amplitude": 5, "period": 30},
            "train": {"epochs": 150, "dtype": "float64", "seeds": 2, "log_every": 25},
        }
        tiltcli.sweep(grid, results=tmp_path, engine=engine, workers=0)
        frames[engine] = tiltcli.read(engine, tmp_path)
    first, second = (frames[e].metrics for e in ENGINES)
    numeric = ["train_loss", "dynamical_loss", "val_loss", "train_accuracy", "val_accuracy"]
    np.testing.assert_allclose(first[numeric], second[numeric], atol=1e-10)
    final = ["test_loss", "test_accuracy", "train_loss"]
    np.testing.assert_allclose(frames["fused"].jobs[final], frames["torch"].jobs[final], atol=1e-10)


def test_what_the_kernel_lacks_goes_to_torch(tmp_path):
    grid = {
        "name": "mix",
        "data": {"kind": "digits"},
        "model": {"kind": ["mlp", "myrtle5"], "width": 3},
        "loss": {"amplitude": 2, "period": 5},
        "train": {"epochs": 2, "lr": 0.1},
    }
    tiltcli.sweep(grid, results=tmp_path, workers=1)
    jobs = tiltcli.read("mix", tmp_path).jobs.set_index("model.kind")
    assert jobs["engine"].to_dict() == {"mlp": "fused", "myrtle5": "torch"}
    with pytest.raises(UserError, match=r'cannot train model.kind = "myrtle5"'):
        tiltcli.sweep(grid, results=tmp_path, engine="fused", fresh=True)


@pytest.mark.parametrize(
    "train",
    [
        {"batch_size": 16, "optimizer": "sgd", "momentum": 0.9, "nesterov": True},
        {"batch_size": 16, "optimizer": "adam", "lr": 0.01},
        {"batch_size": 1000, "optimizer": "adamw", "weight_decay": 0.1, "lr": 0.01},
    ],
)
def test_minibatches_and_optimisers(tmp_path, train):
    grid = {
        "name": "m",
        "data": {"kind": "spiral", "points_per_class": 20},
        "model": {"width": 8},
        "loss": {"amplitude": 2, "period": 7},
        "train": {"epochs": 30, "lr": 0.05, "seeds": 2, "log_every": 1} | train,
    }
    tiltcli.sweep(grid, results=tmp_path, workers=2)
    first = tiltcli.read("m", tmp_path)
    per_epoch = 1 if train["batch_size"] == 1000 else 4
    steps = first.metrics["step"] - first.metrics["epoch"] * per_epoch
    assert (steps == 0).all()
    grid["name"] = "again"
    tiltcli.sweep(grid, results=tmp_path, workers=1)
    again = tiltcli.read("again", tmp_path)
    assert again.metrics.equals(first.metrics)
    lost = first.metrics.groupby("job")["train_loss"].agg(["first", "last"])
    assert (lost["last"] < lost["first"]).all()


def test_a_job_that_diverges_leaves_no_mark_on_the_next(tmp_path):
    """Jobs that differ in the seed share what they are trained by."""
    grid = {
        "name": "both",
        "data": {"kind": "spiral"},
        "model": {"width": 5},
        "loss": {"amplitude": 70, "period": 40},
        "train": {"epochs": 500, "log_every": 50, "lr": 3e3, "seeds": 6},
    }
    tiltcli.sweep(grid, results=tmp_path, engine="fused", workers=1)
    together = tiltcli.read("both", tmp_path)
    assert set(together.jobs["outcome"]) == {"completed", "diverged"}
    for seed, job in together.jobs.set_index("train.seed")["job"].items():
        alone = grid | {"name": f"seed{seed}", "train": grid["train"] | {"seeds": [seed]}}
        tiltcli.sweep(alone, results=tmp_path, engine="fused", workers=1)
        rows = together.metrics[together.metrics["job"] == job].reset_index(drop=True)
        assert rows.equals(tiltcli.read(f"seed{seed}", tmp_path).metrics.reset_index(drop=True))
