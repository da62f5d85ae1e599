"""Cells, pairs, intervals and the best cell of a run, written from the contract's definitions.

Plain pandas on the Parquet files. Nothing here imports the tool: these functions are what its
numbers are held against.
"""

import itertools
import json
import math
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t as student

REPLICATES = ("train.seed", "data.seed")
NOT_SETTINGS = ("data.path", "data.digest", "model.init_file", "model.init_digest")
# What a static job has of [loss]; all else there describes the oscillation, which it has not.
STATIC_LOSS = ("loss.base", "loss.class_weight")
METRICS = ("train_accuracy", "val_accuracy", "test_accuracy")
FITS = 0.99
TIE = 1e-12


def table(folder, name):
    """All rows of one table of a run, those of later files last."""
    files = sorted(
        (Path(folder) / name).glob("*.parquet"), key=lambda file: file.stat().st_mtime_ns
    )
    return pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)


def jobs(folder):
    """A run's jobs, each as its last row says, all settings canonical."""
    frame = table(folder, "jobs").drop_duplicates("job", keep="last").reset_index(drop=True)
    for name in settings_of(frame) + list(REPLICATES):
        values = [canonical(name, value) for value in frame[name].astype(object)]
        frame[name] = pd.Series(values, dtype=object)
    return frame


def canonical(name, value):
    """One value for one meaning: null is None, a full batch is null, whole numbers are ints."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if name == "train.batch_size":
        return None if value == "full" else int(value)
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | float | np.number):
        return int(value) if float(value).is_integer() and abs(value) < 2**53 else float(value)
    return value


def settings_of(frame):
    """The columns that tell cells apart."""
    apart = (*REPLICATES, *NOT_SETTINGS)
    return [name for name in frame.columns if "." in name and name not in apart]


@dataclass(frozen=True, eq=False)
class Cell:
    """All jobs that agree on every setting but the replicates."""

    settings: dict
    jobs: pd.DataFrame

    @property
    def static(self):
        return self.settings["loss.kind"] == "static"

    @cached_property
    def key(self):
        return tuple(sorted(self.settings.items()))

    @property
    def replicates(self):
        return len(self.jobs)

    def lost(self, *outcomes):
        """Jobs that ended so; without outcomes, all that were lost."""
        return int(self.jobs["outcome"].isin(outcomes or ("diverged", "failed")).sum())

    def values(self, metric):
        """What every job counts with that has the metric, by replicate.

        A diverged job counts with its accuracy or with chance, 1/C, whichever is lower.
        """
        return self.all_values[metric]

    @cached_property
    def all_values(self):
        return {metric: self._values(metric) for metric in METRICS}

    def _values(self, metric):
        some = self.jobs[self.jobs["outcome"] != "failed"]
        value = some[metric].astype(float)
        chance = some["labels"].map(lambda text: 1 / len(json.loads(text)))
        value = value.where(some["outcome"] == "completed", np.minimum(value, chance))
        index = pd.MultiIndex.from_frame(some[list(REPLICATES)])
        return pd.Series(value.to_numpy(), index).dropna().sort_index()

    @property
    def crossed(self):
        """Whether it has several draws of the data: then the draw is the replicate."""
        return self.jobs["data.seed"].nunique() > 1

    @cached_property
    def intervals(self):
        return {m: Interval.of(by_draw(self.values(m), self.crossed)) for m in METRICS}

    def mean(self, metric):
        return self.intervals[metric].mean

    def applies(self, name):
        """Whether jobs of this cell have that setting at all."""
        return (
            not self.static or not name.startswith("loss.") or name in ("loss.kind", *STATIC_LOSS)
        )

    @cached_property
    def without_loss(self):
        """What it has in common with its static partner."""
        return tuple(
            (name, value)
            for name, value in sorted(self.settings.items())
            if not name.startswith("loss.") or name in STATIC_LOSS
        )

    def __str__(self):
        return ", ".join(f"{name}={value}" for name, value in self.settings.items())


@dataclass(frozen=True)
class Interval:
    """A mean with its 95% interval (Student's); n is the number of replicates."""

    mean: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values):
        units = values.to_numpy(float)
        n = len(units)
        if n == 0:
            return cls(math.nan, math.nan, math.nan, 0)
        mean = float(units.mean())
        if n == 1:
            return cls(mean, math.nan, math.nan, 1)
        half = student.ppf(0.975, n - 1) * units.std(ddof=1) / math.sqrt(n)
        return cls(mean, mean - half, mean + half, n)

    @property
    def half(self):
        return (self.high - self.low) / 2


def by_draw(values, crossed):
    """Independent units: the draws' means over their seeds where several draws were taken."""
    draws = values.index.get_level_values("data.seed")
    return values.groupby(draws).mean() if crossed else values


def cells(frame):
    """The cells of a frame of jobs, in the order of its settings' values."""
    found = {}
    names = settings_of(frame)
    for row in range(len(frame)):
        settings = {name: frame[name].iat[row] for name in names}
        found.setdefault(tuple(settings.items()), []).append(row)
    return [Cell(dict(key), frame.iloc[rows]) for key, rows in found.items()]


def select(all_cells, **settings):
    """The cells with these values; `loss__kind` stands for loss.kind."""
    wanted = {name.replace("__", "."): value for name, value in settings.items()}
    return [c for c in all_cells if all(c.settings[name] == v for name, v in wanted.items())]


def partner(cell, all_cells):
    """The static cell that agrees on every setting that static has; None where there is none."""
    found = [one for one in all_cells if one.static and one.without_loss == cell.without_loss]
    assert len(found) <= 1
    return found[0] if found else None


def regime(cell, all_cells, threshold=FITS):
    """By the static partner's mean final training accuracy."""
    static = partner(cell, all_cells)
    mean = static.mean("train_accuracy") if static else math.nan
    if math.isnan(mean):
        return "unknown"
    return "overparameterised" if mean >= threshold else "underparameterised"


def best(candidates, metric):
    """All cells that may be called the best: one, unless there are ties to the last digit.

    No cell that lost a job wins over one that did not. Where all did, the rule leaves open whether
    the highest mean counts or, before it, the fewest losses.
    """
    rated = [c for c in candidates if not math.isnan(c.mean(metric))]
    fewest = min((c.lost() for c in rated), default=0)
    kept = [[c for c in rated if c.lost() == fewest]] + ([rated] if fewest else [])
    tops = [max((c.mean(metric) for c in some), default=math.nan) for some in kept]
    return [
        c
        for c in rated
        if any(
            c in some and c.mean(metric) >= top - TIE for some, top in zip(kept, tops, strict=True)
        )
    ]


def first_in_grid(tied, grid):
    """Of these cells the one whose axes' values stand first in the grid file."""
    order = axes(grid)

    def place(cell):
        return [values.index(cell.settings[name]) for name, values in order.items()]

    return min(tied, key=place)


def axes(grid):
    """The axes among the settings of a grid file, in its order: name → values as written."""
    text = Path(grid).read_text(encoding="utf-8")
    found = {}
    for part, content in tomllib.loads(text).items():
        if part in ("data", "model", "loss", "train"):
            for name, value in content.items():
                full = f"{part}.{name}"
                if isinstance(value, list) and full not in (*REPLICATES, "train.seeds"):
                    found[full] = [canonical(full, one) for one in value]
    return found


@dataclass(frozen=True, eq=False)
class Pair:
    """Two cells that differ in nothing but what is compared."""

    a: Cell
    b: Cell

    def numbers(self, metric):
        """n, both means and the difference of the jobs that both completed, with its p-value."""
        return self.all_numbers[metric]

    @cached_property
    def all_numbers(self):
        return {metric: self._numbers(metric) for metric in METRICS}

    def _numbers(self, metric):
        both = pd.concat(
            [self.a.values(metric).rename("a"), self.b.values(metric).rename("b")],
            axis=1,
            join="inner",
        )
        both = by_draw(both, self.a.crossed or self.b.crossed)
        change = Interval.of(both["b"] - both["a"])
        return {
            "n": change.n,
            "mean_a": both["a"].mean(),
            "mean_b": both["b"].mean(),
            "difference": change.mean,
            "low": change.low,
            "high": change.high,
            "p": permutation_p((both["b"] - both["a"]).to_numpy(float)),
        }


def compared(a_cells, b_cells):
    """The settings on which the two sides have no value in common, where both have them."""
    found = set()
    for name in a_cells[0].settings:
        a_values = {c.settings[name] for c in a_cells if c.applies(name)}
        b_values = {c.settings[name] for c in b_cells if c.applies(name)}
        if a_values and b_values and not a_values & b_values:
            found.add(name)
    return found


def pairs(a_cells, b_cells):
    """Every pair of cells that agree on all settings both have, but those compared."""
    apart = compared(a_cells, b_cells)
    return [
        Pair(a, b)
        for a, b in itertools.product(a_cells, b_cells)
        if all(
            a.settings[name] == b.settings[name]
            for name in a.settings
            if name not in apart and a.applies(name) and b.applies(name)
        )
    ]


def permutation_p(differences):
    """Exact two-sided sign-flip test of a mean of zero."""
    n = len(differences)
    if n == 0:
        return math.nan
    assert n <= 16, "all sign patterns are too many"
    signs = np.array(list(itertools.product((1, -1), repeat=n)))
    sums = np.abs(signs @ differences)
    return float(np.mean(sums >= abs(differences.sum()) - TIE))


def holm(p_values):
    """Holm's step-down correction; missing values stay missing and do not count."""
    p_values = np.asarray(p_values, float)
    corrected = np.full(len(p_values), math.nan)
    known = np.flatnonzero(~np.isnan(p_values))
    running = 0.0
    for rank, at in enumerate(known[np.argsort(p_values[known], kind="stable")]):
        running = max(running, min(1.0, (len(known) - rank) * p_values[at]))
        corrected[at] = running
    return corrected


def curve(cell, metrics, column):
    """Mean of a logged column over the completed jobs that reached an epoch: epoch → mean."""
    done = cell.jobs[cell.jobs["outcome"] == "completed"]
    rows = metrics.merge(done[["job", *REPLICATES]], on="job")
    mean = rows.groupby(["epoch", "data.seed"])[column].mean()
    return mean.groupby("epoch").mean()
