"""Scores for classes of unequal sizes: recall from the definition, by both engines."""

import numpy as np
import pytest

import perceptron
import tiltcli
from dense import check_density
from helpers import tilt, write_grid
from tiltcli.curvature.lyapunov import Follower
from tiltcli.curvature.prober import Prober, curvature_of
from tiltcli.data import dataset_of
from tiltcli.engines import Block, Context, Ending, Snapshot, Trail, load_engine
from tiltcli.engines.mlp.tangents import first_direction
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
PROBE = '[probe]\nevery = 4\nquantities = ["hessian", "alignment", "density"]\n'
STATIC = GRID.replace('kind = "dynamical"\namplitude = 6\nperiod = 7', 'kind = "static"')


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("few")
    random = np.random.default_rng(0)
    for name, inputs in (("few", 5), ("wide", 30)):
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


def random_groups(y, seed):
    """Group of each sample, of the classes' sizes, whatever their labels."""
    return np.random.default_rng([3, seed]).permutation(y)


@pytest.mark.parametrize("kind", ["static", "class", "random"])
@pytest.mark.parametrize("base", ["cross_entropy", "mse"])
@pytest.mark.parametrize(("size", "path"), [(None, "few"), (16, "few"), (16, "wide")])
def test_balanced_weights_multiply_gamma(folder, kind, base, size, path):
    """Both engines follow a NumPy loop of the definition, and agree with each other."""
    words = [f"loss.base={base}", "loss.class_weight=balanced", "train.epochs=12"]
    rate = 0.1 if path == "few" else 0.01
    words += [f"train.lr={rate}"]
    words += [f"train.batch_size={size}"] if size else []
    words += [f'data.path="{path}.npz"', *([] if kind == "static" else [f"loss.groups={kind}"])]
    text = STATIC if kind == "static" else GRID
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
    if kind != "static":
        gammas = tiltcli.gamma(np.arange(steps + 1), num_classes=4, amplitude=6, period=7)
    group = random_groups(y, 0) if kind == "random" else y
    weights = gammas[:, group] * balanced(y)[y]
    parts = cut(found["fused"][0][0], X.shape[1])
    order = perceptron.batches(len(y), size, 0, steps)
    for step, rows in enumerate(order):
        if step % (steps // 12) == 0 and step // (steps // 12) % 2 == 0:
            F = perceptron.losses(parts, X, y, weights[step], base)[1]
            at = step // (steps // 12) // 2
            assert found["fused"][1][at] == pytest.approx(F, abs=1e-9)
        gradient = perceptron.losses(parts, X[rows], y[rows], weights[step][rows], base)[3]
        parts = [part - rate * g for part, g in zip(parts, gradient, strict=True)]
    np.testing.assert_allclose(found["fused"][0][-1], perceptron.flat(parts), rtol=0, atol=1e-9)


def cut(theta, inputs, width=5, classes=4):
    """W1, b1, W2, b2."""
    sizes = [inputs * width, width, width * classes]
    W1, b1, W2, b2 = np.split(theta, np.cumsum(sizes))
    return [W1.reshape(inputs, width), b1, W2.reshape(width, classes), b2]


@pytest.mark.parametrize(
    ("path", "groups"), [("few", "random"), ("wide", "random"), ("few", "class")]
)
def test_balanced_weights_are_probed(folder, path, groups):
    """Gradient, spectrum and the exponent of what is trained; and of groups, not of pairs."""
    words = ["loss.class_weight=balanced", f"loss.groups={groups}", f'data.path="{path}.npz"']
    words += ["train.epochs=12", "train.lr=0.1"]
    job = parse_sweep(GRID, name="x", folder=folder, overrides=words).jobs[0]
    data = dataset_of(job)
    context = Context(snapshots=[4, 12], trail=True)
    items = list(load_engine("fused")(job, data, context))
    shot = next(item for item in items if isinstance(item, Snapshot))
    X, y = data.train.X, data.train.y
    group = random_groups(y, 0) if groups == "random" else y
    gamma = tiltcli.gamma(4, num_classes=4, amplitude=6, period=7)
    weights = gamma[group] * balanced(y)[y]
    curvature = curvature_of(job, data, np.arange(3))

    def gradient(theta, weights):
        return perceptron.flat(
            perceptron.losses(cut(theta, X.shape[1]), X, y, weights, "cross_entropy")[3]
        )

    def hessian(weights):
        steps = np.eye(shot.theta.size) * 1e-6
        columns = [
            (gradient(shot.theta + e, weights) - gradient(shot.theta - e, weights)) / 2e-6
            for e in steps
        ]
        return np.array(columns)

    slope = gradient(shot.theta, weights)
    np.testing.assert_allclose(curvature.gradient(shot.theta, shot.gamma), slope, atol=1e-12)
    row = Prober(job, data, parse_sweep(GRID + PROBE, name="x", folder=folder).probe)(shot)
    values, vectors = np.linalg.eigh(hessian(weights))
    assert row["hessian_max"] == pytest.approx(values[-1], rel=1e-6)
    check_density(row, values)
    static = np.linalg.eigvalsh(hessian(np.ones(len(y))))[-1]
    assert row["hessian_max_static"] == pytest.approx(static, rel=1e-6)
    for g, found in enumerate(row["alignment"]):
        slope = gradient(shot.theta, 1.0 * (group == g))
        wanted = (slope @ vectors[:, -1]) ** 2 / (slope @ slope)
        assert found == pytest.approx(wanted, abs=1e-5)
    assert len(row["alignment"]) == 4
    direction, total, step = first_direction(shot.theta.size), 0.0, 0
    follower = Follower(job, data)
    for trail in (item for item in items if isinstance(item, Trail)):
        exponent = follower.follow(trail)
        for theta in trail.thetas:
            at = tiltcli.gamma(step, num_classes=4, amplitude=6, period=7)[group] * balanced(y)[y]
            ends = [gradient(theta + sign * 1e-6 * direction, at) for sign in (1, -1)]
            direction = direction - 0.1 * (ends[0] - ends[1]) / 2e-6
            total += np.log(np.linalg.norm(direction))
            direction /= np.linalg.norm(direction)
            step += 1
    assert step == 12 and exponent == pytest.approx(total / 12, abs=1e-5)


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


@pytest.mark.parametrize("engine", ["fused", "torch"])
def test_of_many_equal_classes_it_is_the_accuracy(engine):
    """To the last bit, whether the classes are counted apart or not."""
    text = '[data]\nkind = "spiral"\nclasses = 20\npoints_per_class = 7\n[model]\nwidth = 30\n'
    text += '[loss]\nkind = "static"\n[train]\nepochs = 30\nlog_every = 5\nrecall = '
    rows = []
    for counted in (False, True):
        job = parse_sweep(text + str(counted).lower(), name="x", folder=None).jobs[0]
        data = dataset_of(job)
        items = [*load_engine(engine)(job, data, Context(device="cpu"))]
        blocks = [one for one in items if isinstance(one, Block) and len(one.epoch)]
        for part in ("train", "val"):
            plain, balanced, loss = (
                np.concatenate([getattr(one, f"{part}_{score}") for one in blocks])
                for score in ("accuracy", "balanced_accuracy", "loss")
            )
            np.testing.assert_array_equal(balanced, plain)
            rows.append([plain, loss])
        assert items[-1].test_accuracy == items[-1].test_balanced_accuracy
        assert all((one.recall is not None) == counted for one in blocks)
    np.testing.assert_array_equal(rows[:2], rows[2:])
    np.testing.assert_allclose(blocks[-1].recall[-1].mean(axis=1), [one[0][-1] for one in rows[2:]])
    assert len(set(rows[0][0])) > 3


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
