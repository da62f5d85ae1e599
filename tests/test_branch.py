"""Branches of a training, their diagram, Lyapunov exponents, and the bounds of the optimisers."""

import json
import threading

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

import tiltcli
from helpers import tilt, write_grid
from tiltcli.curvature.lyapunov import descent_derivative, largest_exponent
from tiltcli.curvature.stability import stability_bound
from tiltcli.errors import UserError
from tiltcli.execution.branching import branch_run

GRID = """
[data]
kind = "spiral"
points_per_class = 20
[model]
width = 12
[loss]
kind = "dynamical"
amplitude = 10
period = 150
[train]
epochs = 400
lr = 2.0
dtype = "float64"
log_every = 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("branch")
    tiltcli.sweep(write_grid(path, GRID, "one"), results=path / "results")
    two = GRID.replace("lr = 2.0", "lr = [1.0, 2.0]").replace("log_every = 1", "log_every = 50")
    tiltcli.sweep(write_grid(path, two, "two"), results=path / "results")
    return path


def rows(folder, name):
    files = sorted((folder / "results" / name / "branches").glob("*.parquet"))
    return pd.concat([pq.read_table(file).to_pandas() for file in files])


def test_at_its_own_learning_rate_a_branch_is_the_training(folder):
    found = branch_run(
        "one", 100, results=folder / "results", rates=(1.0, 2.0), points=2, steps=300, keep=300
    )
    assert (found.added, found.before, found.interrupted) == (2, 0, False)
    table = rows(folder, "one")
    own = table[table["lr"] == 2.0].sort_values("step")
    stored = tiltcli.read("one", folder / "results").metrics.set_index("step")["dynamical_loss"]
    np.testing.assert_array_equal(own["loss"], stored.loc[100:400])
    assert own["sharpness"].notna().to_numpy().nonzero()[0].tolist() == [0, 299, 300]
    assert own["lyapunov"].notna().to_numpy().nonzero()[0].tolist() == [300]
    meaning = pq.read_schema(next((folder / "results/one/branches").iterdir())).field("loss")
    assert b"null at the step at which it diverged" in meaning.metadata[b"meaning"]


def test_a_branch_resumes_and_grows(folder):
    words = ("branch", "two", "--epoch", "60", "--frozen", "--lr", "0.5..4", "--points", "8")
    words += ("--steps", "120", "--keep", "20")
    several = tilt(*words, cwd=folder)
    assert several.returncode == 2
    assert "two has 2 jobs" in several.stderr
    jobs = tiltcli.read("two", folder / "results").jobs
    job = jobs.loc[jobs["train.lr"] == 2.0, "job"].item()
    stopped = threading.Event()
    stopped.set()
    arguments = {"results": folder / "results", "job": job, "rates": (0.5, 4.0), "frozen": True}
    arguments |= {"points": 8, "steps": 120, "keep": 20}
    none = branch_run("two", 60, **arguments, stop=stopped)
    assert (none.added, none.interrupted) == (0, True)
    made = tilt(*words, "--job", job, cwd=folder)
    assert made.returncode == 0, made.stderr
    assert "8 learning rates from 0.5 to 4 added" in made.stderr
    once = rows(folder, "two")
    assert once.groupby("lr")["step"].agg(
        ["min", "max", "size"]
    ).drop_duplicates().values.tolist() == [[60, 180, 21]]
    more = branch_run("two", 60, **arguments | {"points": 15})
    assert (more.added, more.before) == (7, 8)
    # What a killed command left away is all that is made again, to the same numbers.
    first = next((folder / "results/two/branches").glob("*.parquet"))
    before = pq.read_table(first).to_pandas()
    first.unlink()
    again = branch_run("two", 60, **arguments | {"points": 15})
    assert again.added == before["lr"].nunique()
    whole = rows(folder, "two").set_index(["lr", "step"]).sort_index()
    held = before.set_index(["lr", "step"])
    pd.testing.assert_frame_equal(whole.loc[held.index], held)
    drawn = tilt("plot", "bifurcation", "two", "-o", "two.png", cwd=folder)
    assert drawn.returncode == 0, drawn.stderr
    assert (folder / "two.png").stat().st_size > 10_000


def test_a_training_that_is_not_the_stored_one_is_refused(folder):
    text = GRID.replace("lr = 2.0", "lr = 1.5")
    tiltcli.sweep(write_grid(folder, text, "bent"), results=folder / "results")
    (part,) = (folder / "results/bent/metrics").glob("*.parquet")
    table = pq.read_table(part)
    losses = table["train_loss"].to_numpy().copy()
    losses[10] *= 1 + 1e-15
    where = table.schema.get_field_index("train_loss")
    pq.write_table(table.set_column(where, table.schema.field(where), [losses]), part)
    with pytest.raises(UserError, match="not the same training"):
        branch_run("bent", 50, results=folder / "results", points=2, steps=20, keep=2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["one", "--epoch", "401"], "allowed: 0 to 400"),
        (["one", "--epoch", "9", "--lr", "3..1"], "two rising numbers > 0"),
        (["one", "--epoch", "9", "--lr", "3"], "LO..HI"),
        (["one", "--epoch", "9", "--points", "1"], "a whole number from 2"),
        (["one", "--epoch", "9", "--keep", "6000"], "a whole number from 1 to 5000"),
        (["on", "--epoch", "9"], "did you mean one"),
    ],
)
def test_wrong_guesses(folder, words, said):
    refused = tilt("branch", *words, cwd=folder)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


def test_nothing_to_draw(folder):
    tiltcli.sweep(write_grid(folder, GRID.replace("400", "4"), "bare"), results=folder / "results")
    refused = tilt("plot", "bifurcation", "bare", cwd=folder)
    assert refused.returncode == 2
    assert "tiltcli branch bare --epoch E makes one" in refused.stderr


def test_exponent_of_the_logistic_map():
    """At r = 4 the orbit x = sin²(2ⁿ θ) has the mean of ln|4 − 8x|; period 2 has a closed form."""
    r, x, orbit = 3.2, 0.3, []
    for _ in range(1000):
        x = r * x * (1 - x)
        orbit.append(x)
    slopes = (lambda v, x=x: r * (1 - 2 * x) * v for x in orbit[-200:])
    # The multiplier of the 2-cycle is 4 + 2 r − r².
    assert largest_exponent(slopes, 1) == pytest.approx(np.log(abs(4 + 2 * r - r**2)) / 2, abs=1e-8)
    chaotic = np.sin(np.arange(1, 300) ** 1.7) ** 2
    slopes = (lambda v, x=x: 4 * (1 - 2 * x) * v for x in chaotic)
    expected = np.mean(np.log(np.abs(4 * (1 - 2 * chaotic))))
    assert largest_exponent(slopes, 1) == pytest.approx(expected, abs=1e-8)
    assert largest_exponent([lambda v: 0 * v], 1) == -np.inf
    assert np.isnan(largest_exponent([], 3))


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.8, False), (0.8, True)])
def test_exponent_of_descent_on_a_quadratic(momentum, nesterov):
    """Against the spectral radius of torch's own step, column by column."""
    draw = np.random.default_rng(0)
    root = draw.standard_normal((4, 4))
    A, rate, decay = root @ root.T + np.eye(4), 0.9, 0.01

    def torch_step(state):
        theta = torch.tensor(state[:4], requires_grad=True)
        options = {"momentum": momentum, "nesterov": nesterov, "weight_decay": decay}
        optimiser = torch.optim.SGD([theta], lr=rate, **options)
        if momentum:
            optimiser.state[theta]["momentum_buffer"] = torch.tensor(state[4:])
        theta.grad = torch.tensor(A @ state[:4])
        optimiser.step()
        velocity = optimiser.state[theta]["momentum_buffer"].numpy() if momentum else []
        return np.concatenate([theta.detach().numpy(), velocity])

    size = 8 if momentum else 4
    dense = np.stack([torch_step(unit) for unit in np.eye(size)], axis=1)
    step = descent_derivative(lambda v: A @ v, rate, momentum, nesterov, decay)
    v = draw.standard_normal(size)
    np.testing.assert_allclose(step(v), dense @ v, atol=1e-12)
    radius = np.abs(np.linalg.eigvals(dense)).max()
    assert largest_exponent([step] * 600, size, 500) == pytest.approx(np.log(radius), abs=1e-8)


@pytest.mark.parametrize(
    "settings",
    [
        {"train.optimizer": "sgd"},
        {"train.optimizer": "sgd", "train.weight_decay": 0.1},
        {"train.optimizer": "sgd", "train.momentum": 0.7},
        {"train.optimizer": "sgd", "train.momentum": 0.7, "train.nesterov": True},
        {"train.optimizer": "sgd", "train.momentum": 0.9, "train.weight_decay": 0.2},
        {"train.optimizer": "adam"},
        {"train.optimizer": "adamw", "train.weight_decay": 0.3},
    ],
    ids=str,
)
def test_bounds_are_where_steps_on_a_quadratic_stop_to_shrink(settings):
    """Spectral radius of the step, written out from the optimisers' definitions."""
    rate, decay = 0.3, settings.get("train.weight_decay", 0.0)
    bound = stability_bound(settings | {"train.batch_size": "full"})

    def radius(height):
        if settings["train.optimizer"] == "sgd":
            beta, h = settings.get("train.momentum", 0.0), height + decay
            ahead = settings.get("train.nesterov", False)
            # velocity' = β velocity + h x; x' = x − η (velocity', or h x + β velocity')
            rows = [[beta, h]]
            slope = [beta * beta, h + beta * h] if ahead else rows[0]
            step = [*rows, [-rate * slope[0], 1 - rate * slope[1]]]
        else:
            # Preconditioned: mean' = 0.9 mean + 0.1 h x; x' = (1 − η decay) x − η mean'
            shrink = 1 - rate * decay if settings["train.optimizer"] == "adamw" else 1
            step = [[0.9, 0.1 * height], [-rate * 0.9, shrink - rate * 0.1 * height]]
        return np.abs(np.linalg.eigvals(np.array(step))).max()

    edge = bound.at(rate)
    assert radius(edge * (1 - 1e-6)) < 1 + 1e-12 < radius(edge * (1 + 1e-6))
    assert bound.rate_of(edge) == pytest.approx(rate)


def test_bounds_by_name():
    plain = {"train.optimizer": "sgd", "train.batch_size": 32}
    assert (stability_bound(plain).column, stability_bound(plain).at(0.5)) == ("batch_sharpness", 4)
    assert stability_bound(plain | {"train.momentum": 0.9}) is None
    assert stability_bound({"train.optimizer": "adam", "train.batch_size": 32.0}) is None
    adam = stability_bound({"train.optimizer": "adam", "train.batch_size": None})
    assert adam.at(1.0) == pytest.approx(38)
    assert adam.column == "hessian_max_preconditioned"
    assert stability_bound({"train.optimizer": "sgd"}).at(0.0) == np.inf
    assert json.dumps(adam.formula, ensure_ascii=False) == '"(2+2β₁)/((1−β₁)η)"'
