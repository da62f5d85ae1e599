"""Small grids at random, some of their jobs lost: every view is right, or says why it is not."""

import tempfile
from pathlib import Path
from random import Random

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import foreign
from checks import VIEWS

AXES = {
    "train.lr": ["[0.3, 1.0]", "[1.0, 1e30]", "{ linspace = [0.1, 1.0, 3] }"],
    "train.batch_size": ['["full", 16]', "[16, 32]"],
    "train.epochs": ["[10, 20]"],
    "data.noise": ["[0.1, 0.3]"],
    "data.points_per_class": ["[20, 25]"],
    "data.seed": ["[0, 1]"],
    "train.optimizer": ['["sgd", "adam"]'],
    "train.momentum": ["[0.0, 0.9]"],
    "train.weight_decay": ["[0.0, 0.01]"],
    "loss.base": ['["cross_entropy", "mse"]'],
    "loss.rest": ["[0, 1]"],
    "loss.settle": ["[0, 10]"],
    "loss.shape": ['["triangle", "sine"]', '["square", "triangle"]'],
    "loss.period": ["10", "[5, 10]"],
    "loss.amplitude": ["3", "[10, 3]"],
    "model.width": ["4", "[6, 4]"],
    "train.seeds": ["1", "[4, 2]", "3"],
}


@st.composite
def grids(draw):
    """Settings of a grid of at most a few dozen jobs: up to four axes, of them any."""
    names = draw(st.lists(st.sampled_from(sorted(AXES)), min_size=1, max_size=4, unique=True))
    changes = {name: draw(st.sampled_from(AXES[name])) for name in names}
    quick = {"model.width": "4", "train.epochs": "20", "train.log_every": "10"}
    quick |= {"loss.amplitude": "3", "loss.period": "10", "train.seeds": "2"}
    kinds = ['["static", "dynamical"]'] * 4 + ['"dynamical"']
    return quick | {"loss.kind": draw(st.sampled_from(kinds))} | changes


def losing(seed, share):
    """Lose a share of the jobs, whatever they reached; which does not hang on their order."""

    def change(row):
        random = Random(f"{seed} {row['job']}")
        if random.random() < share:
            row["outcome"] = random.choice(["diverged", "failed"])
            row["error"] = "lost by the test"
            row |= {f"{part}_loss": None for part in ("train", "val", "test")}
            if row["outcome"] == "failed":
                row |= {f"{part}_accuracy": None for part in ("train", "val", "test")}

    return change


@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # to shrink takes minutes, and a grid is easily read
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    changes=grids(),
    share=st.sampled_from([0.0, 0.0, 0.2]),
    seed=st.integers(0, 99),
    views=st.permutations(sorted(VIEWS)),
)
def test_random_grid(changes, share, seed, views):
    with tempfile.TemporaryDirectory() as folder:
        runs = foreign.Runs(folder)
        run = runs.train("random", foreign.text_of("random", **changes))
        foreign.edit(run.folder, losing(seed, share))
        for view in views[:4]:
            VIEWS[view](run, Path(folder))
