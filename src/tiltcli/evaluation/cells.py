"""Cells of runs: jobs that agree on everything but what only repeats the experiment.

The one table that every view asks, and the one rule for which cell is best. A *cell* is all
settings of a job but its replicate settings (`train.seed`, `data.seed`). Its *static partner* is
the static cell that agrees on every setting that a static job has. Cells that have one static
partner, or would have, make a *group*: they differ only in how the loss is tilted.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import numpy as np
import numpy.typing as npt
import pandas as pd

from tiltcli.errors import Fault, Outcome, with_suggestion
from tiltcli.grid.settings import PATHS, SETTINGS, position, tilting
from tiltcli.statistics import Estimate, half_width

REPLICATES = ("train.seed", "data.seed")
"""Settings that only repeat the experiment."""

FITTED = 0.99
"""Mean training accuracy of the static cell from which a group counts as overparameterised."""

UNDER, OVER, UNKNOWN = "underparameterised", "overparameterised", "unknown"

ALWAYS = ("model.width", "loss.amplitude", "loss.period")
"""Settings that are columns of every table of cells, whether or not they vary."""


@dataclass(frozen=True)
class Cells:
    """The cells of some jobs.

    Of `rows` there is one per cell, numbered from 0 in the order of the settings, with `static`
    (flag), `loss.kind`, `group` (number, see the module's text); the settings of `ALWAYS`,
    `outside` and `inside`, null where they do not apply; `place` (of its first job among the jobs);
    `jobs`, each outcome, `lost` (diverged or failed), `parameters`, `train_samples`; `partner`
    (number of the static partner, −1 for none; a static cell's own); `regime`; and for each metric
    `<metric>:mean`, `:low`, `:high` (95% interval of the mean), `:n` (replicates counted), and of
    the differences from the static partner, paired by seeds, `:change`, `:change_low`,
    `:change_high`, `:pairs`. What cannot be known is NaN.
    """

    rows: pd.DataFrame
    outside: tuple[str, ...]
    inside: tuple[str, ...]
    of_job: pd.Series[int]
    unit_of: pd.Series[int]
    metrics: tuple[str, ...]

    def jobs_of(self, cell: int) -> list[str]:
        """Ids of the jobs of a cell."""
        return [str(job) for job in self.of_job.index[self.of_job == cell]]

    def estimate(self, cell: int | None, metric: str) -> Estimate:
        """Mean of a metric over the replicates of a cell; n = 0 without a cell."""
        if cell is None:
            return Estimate(np.nan, np.nan, np.nan, 0)
        row: Any = self.rows.loc[cell]
        mean, low, high, n = (row[f"{metric}:{name}"] for name in ("mean", "low", "high", "n"))
        return Estimate(float(mean), float(low), float(high), int(n))


def gather(jobs: pd.DataFrame, metrics: Iterable[str] = (), *, threshold: float = FITTED) -> Cells:
    """Return the cells of jobs.

    A cell's value of a metric is its mean over replicates. Where a cell has several data draws,
    the draw is the replicate, and its value the mean over its seeds; else the seed is. A diverged
    job counts with the accuracy it had when it diverged, or with chance (1/C) if that is lower;
    it has no loss. A failed job has neither.
    """
    metrics = tuple(metrics)
    if not jobs["job"].is_unique:
        jobs = jobs.drop_duplicates("job", ignore_index=True)
    counted = tuple(dict.fromkeys((*metrics, "train_accuracy")))
    outside, inside = varying(jobs)
    settings = list(dict.fromkeys((*outside, *inside, *ALWAYS)))
    static = jobs["loss.kind"].eq("static")
    frame = pd.DataFrame({"static": static, "job": jobs["job"], "outcome": jobs["outcome"]})
    for name in dict.fromkeys((*settings, *REPLICATES, "parameters", "train_samples")):
        frame[name] = jobs.get(name)
    frame["group"] = numbered(frame, outside)
    of_tilt = set(tilting())
    tilt = [name for name in settings if name not in outside and name in of_tilt]
    frame["cell"] = numbered(frame.assign(tilted=~static), ["group", "tilted", *tilt])
    for metric in counted:
        frame[metric] = scores(jobs, metric)
    cells = frame.groupby("cell", sort=True)
    rows = cells[["static", "group", *settings]].first()
    rows["loss.kind"] = np.where(rows["static"], "static", "dynamical")
    # `first` skips nulls; within a cell a setting is null for all jobs or for none.
    rows["place"] = np.unique(frame["cell"], return_index=True)[1]
    rows["jobs"] = cells.size()
    for outcome in Outcome:
        rows[str(outcome)] = (frame["outcome"] == outcome).groupby(frame["cell"]).sum()
    rows["lost"] = rows[str(Outcome.DIVERGED)] + rows[str(Outcome.FAILED)]
    for name in ("parameters", "train_samples"):
        rows[name] = cells[name].max()
    partners = pd.Series(rows.index[rows["static"]], index=rows.loc[rows["static"], "group"])
    rows["partner"] = rows["group"].map(partners).fillna(-1).astype(int)
    several = frame.groupby("cell")["data.seed"].transform("nunique") > 1
    frame["unit"] = frame["data.seed"].where(several, frame["train.seed"])
    for metric in counted:
        _average(rows, frame, metric, ("mean", "low", "high", "n"))
        if metric in metrics:
            names = ("change", "change_low", "change_high", "pairs")
            _average(rows, _changes(frame, metric), metric, names)
    # To twelve digits, for 0.98 + 0.99 + 1 is not quite 3 · 0.99 in floating point.
    fitted = rows["partner"].map(rows["train_accuracy:mean"]).round(12)
    rows["regime"] = np.where(fitted.isna(), UNKNOWN, np.where(fitted >= threshold, OVER, UNDER))
    ids = pd.Index(jobs["job"], name="job")
    number, units = (pd.Series(frame[name].to_numpy(), index=ids) for name in ("cell", "unit"))
    return Cells(rows, outside, inside, number, units, metrics)


def varying(jobs: pd.DataFrame) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what tells cells apart: settings static jobs have too, and those of the tilt alone.

    Null counts as a value (a momentum that does not apply beside one that does), but a setting of
    the tilt is compared among tilted jobs alone. Paths are left out: their digests stand for them.
    """
    tilt, tilted = set(tilting()), jobs[jobs["loss.kind"].ne("static")]
    apart = {*REPLICATES, *PATHS, "loss.kind"}
    names = [str(name) for name in jobs.columns if "." in str(name) and name not in apart]
    names.sort(key=position)
    outside = (n for n in names if n not in tilt and jobs[n].nunique(dropna=False) > 1)
    inside = (n for n in names if n in tilt and tilted[n].nunique(dropna=False) > 1)
    return tuple(outside), tuple(inside)


def scores(jobs: pd.DataFrame, metric: str) -> pd.Series[float]:
    """What each job counts with: see `gather`. NaN for none."""
    values = pd.to_numeric(jobs[metric], errors="coerce").astype(float)
    diverged = jobs["outcome"].eq(Outcome.DIVERGED)
    if metric.endswith("accuracy"):
        values = values.mask(diverged & values.gt(chance(jobs)), chance(jobs))
    else:
        values = values.where(~diverged)
    return values.where(jobs["outcome"].ne(Outcome.FAILED))


def chance(jobs: pd.DataFrame) -> pd.Series[float]:
    """Accuracy of guessing, 1/C, of each job; NaN where the number of classes is not known."""
    names = jobs["labels"] if "labels" in jobs else pd.Series(None, index=jobs.index, dtype=object)
    known = {text: _classes(text) for text in names.dropna().unique()}
    count = names.map(known).astype(float)
    if "data.classes" in jobs:
        count = count.fillna(jobs["data.classes"].astype(float))
    return 1.0 / count


def _classes(text: str) -> float:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return np.nan
    return float(len(found)) if isinstance(found, list) and found else np.nan


def numbered(frame: pd.DataFrame, keys: Sequence[str]) -> pd.Series[int]:
    """Return the number of each row's combination of some columns, in their order.

    Words come in the order in which the grid file's reference names them (the default first),
    numbers as they rise, nulls last.
    """
    columns = {}
    for key in keys:
        if frame[key].nunique(dropna=False) > 1:
            kind = SETTINGS[key].type if key in SETTINGS else None
            words = get_args(kind) if get_origin(kind) is Literal else ()
            places = {word: place for place, word in enumerate(words)}
            columns[key] = frame[key].map(places) if places else frame[key]
    return combined(pd.DataFrame(columns, frame.index), list(columns))


def combined(rows: pd.DataFrame, keys: list[str]) -> pd.Series[int]:
    """Number of each row's combination of some columns, as they rise, nulls last."""
    if not keys:
        return pd.Series(0, index=rows.index)
    return rows.groupby(keys, dropna=False, sort=True).ngroup()


def averaged(table: pd.DataFrame, by: list[str], value: str) -> pd.DataFrame:
    """Mean of a column over replicates (`unit`), half its 95% interval, and n, by some columns."""
    known = table[table[value].notna()]
    if known.duplicated([*by, "unit"]).any():  # several seeds of one draw of the data
        known = known.groupby([*by, "unit"], dropna=False)[value].mean().reset_index()
    groups = known.groupby(by)[value]
    found = pd.DataFrame({"mean": groups.mean(), "n": groups.count()})
    return found.assign(half=half_width(groups.std(ddof=1), found["n"]))


def _average(rows: pd.DataFrame, table: pd.DataFrame, metric: str, names: Sequence[str]) -> None:
    """Add mean, low, high and n of a metric to the rows, under `metric:name`."""
    found = averaged(table, ["cell"], metric).reindex(rows.index)
    mean, half, n = found["mean"], found["half"], found["n"].fillna(0).astype(int)
    for name, values in zip(names, (mean, mean - half, mean + half, n), strict=True):
        rows[f"{metric}:{name}"] = values


def replicate_values(cells: Cells, jobs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """What jobs count with, where they have it: columns cell, unit, draw, seed and value."""
    once = jobs.drop_duplicates("job").set_index("job", drop=False)
    frame = pd.DataFrame({"cell": cells.of_job, "unit": cells.unit_of})
    frame["draw"] = once.get("data.seed", 0)
    return frame.assign(seed=once["train.seed"], value=scores(once, metric)).dropna(subset="value")


def split(
    rows: pd.DataFrame, keys: Sequence[str], shown: Sequence[str] | None = None, *, sort: bool
) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Rows by their values of some columns, with the values of those that are shown, or of all."""
    shown = keys if shown is None else shown
    if not (by := list(dict.fromkeys((*shown, *keys)))):
        return [({}, rows)]
    groups = rows.groupby(by, dropna=False, sort=sort)
    return [({key: own[key].iloc[0] for key in shown}, own) for _, own in groups]


def _changes(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Tilted − static of jobs of one group with the same replicate settings."""
    pair = ["group", *REPLICATES]
    static = frame.loc[frame["static"], [*pair, metric]]
    both = frame.loc[~frame["static"], [*pair, "cell", "unit", metric]].merge(
        static, on=pair, suffixes=("", ":static")
    )
    return both.assign(**{metric: both[metric] - both[f"{metric}:static"]})


def ranked(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return rows of cells, the best first.

    A cell that lost a job comes after all that lost none: its mean would be of the lucky seeds.
    Of two that lost jobs the higher accuracy comes first, in which the diverged jobs count (see
    `gather`); by a loss, in which they cannot, the one that lost fewer. Of equals the first among
    the jobs comes first, which are in the order of the grid: accuracies are equal to twelve
    digits, for the same numbers add up to other last bits in another order. Cells without a value
    are left out.
    """
    known = rows[rows[f"{metric}:mean"].notna()]
    score, lost = known[f"{metric}:mean"], known["lost"]
    keys = (score, lost) if metric.endswith("loss") else (-score.round(12), lost > 0)
    return known.iloc[np.lexsort((known["place"], *keys))]


def best(rows: pd.DataFrame, metric: str) -> int | None:
    """Return the number of the best cell of some rows (see `ranked`); None if none has a value."""
    found = ranked(rows, metric)
    return int(found.index[0]) if len(found) else None


def results_of(jobs: pd.DataFrame) -> list[str]:
    """Columns of final losses and accuracies."""
    return [str(name) for name in jobs.columns if str(name).endswith(("_loss", "_accuracy"))]


def metric_fault(metric: str, table: pd.DataFrame, known: Sequence[str]) -> Fault | None:
    """What is wrong with a column of --metric that is to be drawn; None if nothing is."""
    if metric not in known:
        said = with_suggestion(f"no column {metric}", metric, known)
    elif table[metric].isna().all():
        said = f"{metric} is empty: the data has no such part"
    else:
        return None
    return Fault(said, source="--metric")


def choosing_metric(jobs: pd.DataFrame) -> str:
    """Column that decides which cell is best: validation accuracy, or what stands in for it."""
    return "val_accuracy" if jobs["val_accuracy"].notna().any() else "train_accuracy"


def cell_records(cells: Cells) -> list[dict[str, Any]]:
    """Return the table of cells for machines; what is not known or does not apply is None."""
    table = cells.rows.astype(object).where(cells.rows.notna(), None)
    settings = dict.fromkeys(("loss.kind", *ALWAYS, *cells.outside, *cells.inside))
    numbers = ("n", "mean", "low", "high", "pairs", "change", "change_low", "change_high")
    return [
        {
            "cell": number,
            "group": row["group"],
            "static": row["static"],
            "settings": {key: _whole(key, row[key]) for key in settings},
            **{name: row[name] for name in ("jobs", "lost", *map(str, Outcome))},
            "partner": None if row["partner"] < 0 else row["partner"],
            **{name: row[name] for name in ("regime", "parameters", "train_samples")},
            "metrics": {
                metric: {name: row[f"{metric}:{name}"] for name in numbers}
                for metric in cells.metrics
            },
        }
        for number, row in zip(table.index.tolist(), table.to_dict("records"), strict=True)
    ]


def _whole(key: str, value: Any) -> Any:
    """Whole numbers as such: a column that has gaps (a full batch beside batches) holds floats."""
    whole = value is not None and key in SETTINGS and SETTINGS[key].whole
    return int(value) if whole else value


Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A metric along the trainings of one cell."""

    epochs: npt.NDArray[np.int64]  # logged, rising, shape (n,)
    mean: Array  # over the replicates, shape (n,)
    low: Array  # lower end of its 95% interval; NaN with fewer than two replicates
    high: Array  # upper end
    replicates: int  # most that an epoch has


def learning_curves(
    cells: Cells, jobs: pd.DataFrame, metrics: pd.DataFrame, metric: str, wanted: Collection[int]
) -> dict[int, Curve]:
    """Average a metric over the completed jobs of some cells: where a lost one ends, it jumps."""
    done = jobs.loc[jobs["outcome"].eq(Outcome.COMPLETED), "job"]
    cell = cells.of_job.reindex(done)
    known = metrics[metrics["job"].isin(cell.index[cell.isin(list(wanted))])]
    table = known[["epoch", metric]].assign(
        cell=known["job"].map(cell), unit=known["job"].map(cells.unit_of)
    )
    found = averaged(table, ["cell", "epoch"], metric)
    curves = {}
    for number in found.index.unique("cell"):
        own = found.loc[number]
        mean, half = own["mean"].to_numpy(float), own["half"].to_numpy(float)
        epochs = own.index.to_numpy(np.int64)
        curves[int(number)] = Curve(epochs, mean, mean - half, mean + half, int(own["n"].max()))
    return curves
