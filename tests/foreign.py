"""Small runs with axes that no shipped sweep has; each is trained when first asked for."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow.parquet as pq

import cell_oracle as oracle
import tiltcli

TABLES = {
    "data": {"kind": '"spiral"', "points_per_class": "20"},
    "model": {"width": "[4, 8]"},
    "loss": {"kind": '["static", "dynamical"]', "amplitude": "[3, 10]", "period": "20"},
    "train": {"epochs": "60", "seeds": "3", "lr": "0.5", "log_every": "20"},
}

# name → what differs from TABLES: settings, and what [sweep] and [[also]] hold.
GRIDS = {
    "plain": {"loss.period": "[10, 30]"},
    "rates": {"train.lr": "{ logspace = [0.1, 3, 4] }"},
    "diverging": {"train.lr": "[0.5, 1e30]", "model.width": "4"},
    "batches": {"train.batch_size": '["full", 16]', "train.epochs": "20"},
    "optimisers": {"train.optimizer": '["sgd", "adam"]', "train.momentum": "[0.0, 0.9]"},
    "shapes": {"loss.shape": '["triangle", "sine"]', "loss.amplitude": "3"},
    "bases": {"loss.base": '["cross_entropy", "mse"]', "train.lr": "0.2"},
    "one-width": {
        "model.width": "4",
        "train.weight_decay": "[0.0, 0.01]",
        "loss.period": "[10, 30]",
    },
    "one-tilt": {"loss.amplitude": "3", "train.lr": "[0.3, 1.0]"},
    "one-amplitude": {"loss.amplitude": "3", "loss.period": "[10, 30]", "loss.rest": "[0, 1]"},
    "only-tilted": {"loss.kind": '"dynamical"', "train.lr": "[0.3, 1.0]"},
    "only-static": {"loss.kind": '"static"', "train.lr": "[0.3, 1.0]"},
    "half": {"train.lr": "[0.3, 1.0]"},
    "draws": {"data.seed": "[0, 1]", "train.lr": "[0.3, 1.0]", "model.width": "4"},
    "zipped": {
        "data.seed": "[0, 1, 2]",
        "train.seeds": "[5, 6, 7]",
        "train.lr": "[0.3, 1.0]",
        "sweep": 'zip = [["data.seed", "train.seeds"]]',
    },
    "lengths": {"train.epochs": "[40, 60]", "loss.settle": "20"},
    "samples": {
        "data.points_per_class": "[20, 30]",
        "data.noise": "[0.1, 0.2]",
        "model.width": "4",
    },
    "more-tilted": {
        "loss.kind": '"static"',
        "also": 'loss.kind = "dynamical"\ntrain.lr = [0.5, 1.5]',
    },
    "lost": {"train.lr": "[0.3, 1.0]", "train.seeds": "4"},
    "regimes": {"train.lr": "[0.3, 1.0]"},
    "tied": {"train.lr": "[1.0, 0.3]", "loss.amplitude": "[10, 3]"},
}

SHARDS = {"half": "1/2"}


def text_of(name, **changes):
    """The grid file of a run."""
    tables = {part: dict(content) for part, content in TABLES.items()}
    tail = ""
    for key, value in (GRIDS.get(name, {}) | changes).items():
        if key == "also":
            tail += f"[[also]]\n{value}\n"
        elif key == "sweep":
            tail += f"[sweep]\n{value}\n"
        else:
            part, setting = key.split(".")
            tables[part][setting] = value
    body = "".join(
        f"[{part}]\n" + "".join(f"{key} = {value}\n" for key, value in content.items())
        for part, content in tables.items()
    )
    return f'name = "{name}"\n{body}{tail}'


def edit(folder, change):
    """Change rows of a run's jobs table where they lie."""
    for part in sorted((folder / "jobs").glob("*.parquet")):
        held = pq.read_table(part)
        rows = held.to_pylist()
        for row in rows:
            change(row)
            # Of classes of one size, which these are, the balanced accuracy is the accuracy.
            for share in ("train", "val", "test"):
                row[f"{share}_balanced_accuracy"] = row[f"{share}_accuracy"]
        pq.write_table(type(held).from_pylist(rows, schema=held.schema), part)


def lose(row):
    """The cells with A 10 look best and lost three jobs of four; one static job failed."""
    tilted = row["loss.kind"] == "dynamical"
    if tilted and row["loss.amplitude"] == 10:
        row |= {"train_accuracy": 0.9, "val_accuracy": 0.9, "test_accuracy": 0.9}
        if row["train.seed"] > 0:
            gone = dict.fromkeys(("train_loss", "val_loss", "test_loss"))
            low = {f"{part}_accuracy": 0.2 for part in ("train", "val", "test")}
            row |= {"outcome": "diverged", "error": "diverged at epoch 7"} | gone | low
    if not tilted and row["train.lr"] == 1 and row["train.seed"] == 3:
        row |= {"outcome": "failed", "error": "Traceback\nValueError: no"}
        row |= {f"{part}_{what}": None for part in ("train", "val", "test") for what in KINDS}


def fit(row):
    """At the higher rate the static loss fits the narrow network too."""
    if row["loss.kind"] == "static" and (row["train.lr"] == 1 or row["model.width"] == 8):
        row["train_accuracy"] = 0.99 + 0.005 * (row["train.seed"] % 2)


def tie(row):
    """Both amplitudes are rated the same, seed by seed."""
    if row["loss.kind"] == "dynamical":
        row["val_accuracy"] = 0.4 + 0.05 * row["train.seed"]


KINDS = ("loss", "accuracy")
EDITS = {"lost": lose, "regimes": fit, "tied": tie}


@dataclass(frozen=True)
class Run:
    """A run on disk, and what the oracle makes of it."""

    name: str
    grid: Path
    results: Path

    @property
    def folder(self):
        return self.results / self.name

    @cached_property
    def jobs(self):
        return oracle.jobs(self.folder)

    @cached_property
    def cells(self):
        return oracle.cells(self.jobs)

    @cached_property
    def metrics(self):
        return oracle.table(self.folder, "metrics")

    @cached_property
    def pairs(self):
        """Static and tilted cells that agree on all that static has."""
        return oracle.pairs(self.static, self.tilted) if self.static and self.tilted else []

    @property
    def static(self):
        return [cell for cell in self.cells if cell.static]

    @property
    def tilted(self):
        return [cell for cell in self.cells if not cell.static]

    @property
    def most(self):
        """No cell can have more replicates than the run has."""
        return len(self.jobs.groupby(list(oracle.REPLICATES)))

    def rivals(self, *facets):
        """The tilted cells of each group that one static cell would be the partner of.

        Args:
            facets: settings of the loss that a view keeps apart.
        """
        groups = {}
        for cell in self.tilted:
            facet = tuple(cell.settings[name] for name in facets)
            groups.setdefault((cell.without_loss, facet), []).append(cell)
        return list(groups.values())

    def chosen(self, *facets):
        """Of each group the cells that may be called the best."""
        return [oracle.best(group, "val_accuracy") for group in self.rivals(*facets)]

    def chosen_somewhere(self):
        """Keys of the cells that are the best of a group, or of a facet of amplitude × period."""
        facets = ("loss.rest", "loss.settle", "loss.shape")
        found = [*self.chosen(), *self.chosen(*facets)]
        return {cell.key for tied in found for cell in tied}


class Runs:
    """Trains runs on demand into one folder."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.made = {}

    def __getitem__(self, name):
        if name not in self.made:
            self.made[name] = self.train(name, text_of(name), SHARDS.get(name))
            if name in EDITS:
                edit(self.made[name].folder, EDITS[name])
        return self.made[name]

    def train(self, name, text, shard=None):
        grid = self.folder / f"{name}.toml"
        grid.write_text(text, encoding="utf-8")
        results = self.folder / "results"
        tiltcli.sweep(grid, results=results, shard=shard)
        return Run(name, grid, results)
