"""Scores for classes of unequal sizes: recall from the definition, by both engines."""

import numpy as np
import pytest

import perceptron
import tiltcli
from helpers import tilt, write_grid
from tiltcli.data import dataset_of
from tiltcli.engines import Block, Context, Ending, Snapshot, load_engine
from tiltcli.errors import UserError
from tiltcli.grid import parse_sweep
from tiltcli.plots.style import said
from tiltcli.reports.loaded_runs import load_run

SIZES = {"train": (61, 12, 4, 0), "val": (30, 5, 3, 1), "test": (20, 0, 4, 2)}
"""Samples of each class; training lacks the last but one of validation's, and so on."""
GRID = """
[data]
kind = "file"
path = "few.npz"
[model]
width = 5
[loss]
kind = "dynamical"
amplitude = 6
period = 7
[train]
epochs = 40
lr = 0.4
log_every = 2
dtype = "float64"
"""
STATIC = GRID.replace('kind = "dynamical"\namplitude = 6\nperiod = 7', 'kind = "static"')


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("few")
    random = np.random.default_rng(0)
    for name, inputs in (("few", 2), ("wide", 30)):
        arrays = {}
        for part, sizes in SIZES.items():
            y = np.repeat(np.arange(4), sizes) if part != "train" else None
            if y is None:  # a class of one sample, so that there are four
                y = np.append(np.repeat(np.arange(4), sizes), [3])
            end = "" if part == "train" else f"_{part}"
            centres = np.random.default_rng(1).normal(size=(4, inputs))
            arrays |= {f"X{end}": random.normal(size=(len(y), inputs)) + centres[y], f"y{end}": y}
        np.savez(path / f"{name}.npz", **arrays)
    return path


def recall(theta, X, y, job, classes=4):
    """Share of each class whose largest logit is its own; NaN of a class that is not there."""
    width, at = job["model.width"], 0
    for inputs, outputs in ((X.shape[1], width), (width, classes)):
        W = theta[at : at + inputs * outputs].reshape(inputs, outputs)
        b = theta[at + inputs * outputs :][:outputs]
        at += (inputs + 1) * outputs
        X = X @ W + b
        if outputs == width and at < len(theta):
            X = np.maximum(X, 0)
    right = X.argmax(axis=1) == y
    return np.array([right[y == c].mean() if (y == c).any() else np.nan for c in range(classes)])


@pytest.mark.parametrize("engine", ["fused", "torch"])
@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ['data.path="wide.npz"', "train.batch_size=20", "train.optimizer=adam", "train.lr=0.01"],
    ],
)
def test_balanced_accuracy_is_the_mean_recall(folder, engine, overrides):
    overrides = [*overrides, "train.recall=true"]
    job = parse_sweep(GRID, name="x", folder=folder, overrides=overrides).jobs[0]
    data = dataset_of(job)
    context = Context(snapshots=range(0, 41, 2), device="cpu")
    items = list(load_engine(engine)(job, data, context))
    blocks = [item for item in items if isinstance(item, Block) and len(item.epoch)]
    thetas = {item.epoch: item.theta for item in items if isinstance(item, Snapshot)}
    scores = {}
    for block in blocks:
        for place, part in enumerate(("train", "val")):
            found = getattr(block, f"{part}_balanced_accuracy"), block.recall[:, place]
            scores |= {(part, e): s for e, *s in zip(block.epoch.tolist(), *found, strict=True)}
    assert len(scores) == 2 * 21
    (ending,) = (item for item in items if isinstance(item, Ending))
    scores["test", 40] = ending.test_balanced_accuracy, ending.test_recall
    for (part, epoch), (score, each) in scores.items():
        own = data.parts[part]
        wanted = recall(thetas[epoch], own.X, own.y, job)
        np.testing.assert_allclose(each, wanted, rtol=0, atol=1e-14)
        assert score == pytest.approx(np.nanmean(wanted), abs=1e-14)


def test_columns(folder, tmp_path):
    grid = write_grid(folder, GRID)
    tiltcli.sweep(grid, results=tmp_path, workers=0)
    found = tiltcli.read("grid", tmp_path)
    (row,) = found.jobs.to_dict("records")
    last = found.metrics.iloc[-1]
    for part in ("train", "val"):
        assert row[f"{part}_balanced_accuracy"] == last[f"{part}_balanced_accuracy"]
        assert row[f"{part}_balanced_accuracy"] != row[f"{part}_accuracy"]
    assert 0 <= row["test_balanced_accuracy"] <= 1


def balanced(y):
    """Weight of each class as scikit-learn has it; 1 of those without samples."""
    found, sizes = np.unique(y, return_counts=True)
    weights = np.ones(4)
    weights[found] = len(y) / (len(found) * sizes)
    return weights


@pytest.mark.parametrize("kind", ["static", "dynamical"])
@pytest.mark.parametrize("base", ["cross_entropy", "mse"])
@pytest.mark.parametrize("size", [None, 16])
def test_balanced_weights_multiply_gamma(folder, kind, base, size):
    """Both engines follow a NumPy loop of the definition, and agree with each other."""
    words = [f"loss.base={base}", "loss.class_weight=balanced", "train.lr=0.1", "train.epochs=12"]
    words += [f"train.batch_size={size}"] if size else []
    text = GRID if kind == "dynamical" else STATIC
    job = parse_sweep(text, name="x", folder=folder, overrides=words).jobs[0]
    data = dataset_of(job)
    steps = 12 * (5 if size else 1)
    context = Context(snapshots=range(13), device="cpu")
    found = {}
    for engine in ("fused", "torch"):
        items = list(load_engine(engine)(job, data, context))
        thetas = {item.epoch: item.theta for item in items if isinstance(item, Snapshot)}
        losses = np.concatenate([b.dynamical_loss for b in items if isinstance(b, Block)])
        found[engine] = np.stack([thetas[e] for e in range(13)]), losses
    np.testing.assert_allclose(found["fused"][0], found["torch"][0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(found["fused"][1], found["torch"][1], rtol=0, atol=1e-9)
    X, y = data.train.X, data.train.y
    gammas = np.ones((steps + 1, 4))
    if kind == "dynamical":
        gammas = tiltcli.gamma(np.arange(steps + 1), num_classes=4, amplitude=6, period=7)
    weights = gammas * balanced(y)
    flat = found["fused"][0][0]
    parts = [flat[:10].reshape(2, 5), flat[10:15], flat[15:35].reshape(5, 4), flat[35:]]
    order = perceptron.batches(len(y), size, 0, steps)
    for step, rows in enumerate(order):
        if step % (steps // 12) == 0 and step // (steps // 12) % 2 == 0:
            F = perceptron.losses(parts, X, y, weights[step][y], base)[1]
            at = step // (steps // 12) // 2
            assert found["fused"][1][at] == pytest.approx(F, abs=1e-9)
        gradient = perceptron.losses(parts, X[rows], y[rows], weights[step][y[rows]], base)[3]
        parts = [part - 0.1 * g for part, g in zip(parts, gradient, strict=True)]
    np.testing.assert_allclose(found["fused"][0][-1], perceptron.flat(parts), rtol=0, atol=1e-9)


def test_balancing_lifts_the_rare_classes(folder, tmp_path):
    text = STATIC.replace("[train]", 'class_weight = ["none", "balanced"]\n[train]')
    grid = write_grid(folder, text + "seeds = 3\n", "weighted")
    tiltcli.sweep(grid, results=tmp_path, workers=0)
    jobs = tiltcli.read("weighted", tmp_path).jobs
    means = jobs.groupby("loss.class_weight")["train_balanced_accuracy"].mean()
    assert means["balanced"] > means["none"] + 0.1
    rows = tiltcli.compare(
        "weighted@loss.class_weight=none",
        "weighted@loss.class_weight=balanced",
        results=tmp_path,
        metrics=["test_balanced_accuracy"],
    ).rows
    assert rows["n"].tolist() == [3]
    text = GRID.replace("period = 7", 'period = 7\ngroups = "random"\nclass_weight = "balanced"')
    with pytest.raises(UserError, match=r'loss.class_weight: got "balanced" with loss.groups'):
        tiltcli.sweep(write_grid(folder, text, "random"), results=tmp_path)


def test_of_many_equal_classes_it_is_the_accuracy(tmp_path):
    text = '[data]\nkind = "spiral"\nclasses = 20\npoints_per_class = 5\n[model]\nwidth = 30\n'
    text += '[loss]\nkind = "static"\n[train]\nepochs = 30\nlog_every = 5\n'
    tiltcli.sweep(write_grid(tmp_path, text), results=tmp_path, workers=0, engine="fused")
    found = tiltcli.read("grid", tmp_path).metrics
    assert found["train_accuracy"].nunique() > 3
    for part in ("train", "val"):
        plain, balanced = found[f"{part}_accuracy"], found[f"{part}_balanced_accuracy"]
        np.testing.assert_allclose(balanced, plain, rtol=0, atol=1e-12)


def test_commands_and_report_take_it(folder, tmp_path):
    text = GRID.replace('"dynamical"', '["static", "dynamical"]') + "seeds = 5\n"
    grid = write_grid(folder, text, "views")
    tiltcli.sweep(grid, results=tmp_path / "results", workers=0)
    metric = ["--metric", "val_balanced_accuracy"]
    sides = ["views@loss.kind=static", "views@loss.kind=dynamical"]
    for words in (
        ["compare", *sides, *metric],
        ["confirm", "views", *metric],
        ["plot", "phase", "views", *metric, "-o", "phase.svg"],
        ["plot", "curves", "views", *metric, "-o", "curves.svg"],
        ["report", "views", "-o", "report.html"],
    ):
        done = tilt(*words, cwd=tmp_path)
        assert done.returncode == 0, f"{words}: {done.stderr}"
    assert said("val_balanced_accuracy") == "validation balanced accuracy"
    loaded = load_run("views", tmp_path / "results")
    assert loaded.metrics[:3] == ["train_accuracy", "val_accuracy", "test_accuracy"]
    assert "train_balanced_accuracy" in loaded.metrics
    assert "val_balanced_accuracy" in loaded.comparison().rows["metric"].unique()
