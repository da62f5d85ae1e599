"""Cells of runs: jobs that agree on everything but what only repeats the experiment.

The one table that every view asks, and the one rule for which cell is best. A *cell* is all
settings of a job but its replicate settings (`train.seed`, `data.seed`). Its *static partner* is
the static cell that agrees on every setting that a static job has. Cells that have one static
partner, or would have, make a *group*: they differ only in how the loss is tilted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args, get_origin

import numpy as np
import numpy.typing as npt
import pandas as pd

from tiltcli.errors import Outcome
from tiltcli.grid.settings import PATHS, SETTINGS, position, tilting
from tiltcli.statistics import half_width

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

    @property
    def groups(self) -> list[pd.DataFrame]:
        """Rows of each group, in order; a group has at most one static row."""
        return [rows for _, rows in self.rows.groupby("group", sort=True)]

    def jobs_of(self, cell: int) -> list[str]:
        """Ids of the jobs of a cell."""
        return [str(job) for job in self.of_job.index[self.of_job == cell]]


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
    unit = _units(frame)
    for metric in counted:
        _average(rows, frame, unit, metric, (metric, "mean", "low", "high", "n"))
        if metric in metrics:
            paired = _changes(frame, metric)
            _average(rows, paired, unit, metric, _CHANGE)
    # To twelve digits, for 0.98 + 0.99 + 1 is not quite 3 · 0.99 in floating point.
    fitted = rows["partner"].map(rows["train_accuracy:mean"]).round(12)
    rows["regime"] = np.where(fitted.isna(), UNKNOWN, np.where(fitted >= threshold, OVER, UNDER))
    ids = pd.Index(jobs["job"], name="job")
    number, units = (pd.Series(frame[name].to_numpy(), index=ids) for name in ("cell", unit))
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
            setting = SETTINGS.get(key)
            words = (
                get_args(setting.type) if setting and get_origin(setting.type) is Literal else ()
            )
            places = {word: place for place, word in enumerate(words)}
            columns[key] = frame[key].map(places) if places else frame[key]
    if not columns:
        return pd.Series(0, index=frame.index)
    return pd.DataFrame(columns).groupby(list(columns), dropna=False, sort=True).ngroup()


def _units(frame: pd.DataFrame) -> str:
    """Column whose values are the replicates, in cells of several data draws and in others."""
    draws = frame.groupby("cell")["data.seed"].transform("nunique")
    by_draw = draws.to_numpy() > 1
    frame["unit"] = np.where(by_draw, frame["data.seed"], frame["train.seed"])
    return "unit"


_CHANGE = ("", "change", "change_low", "change_high", "pairs")


def _average(
    rows: pd.DataFrame, frame: pd.DataFrame, unit: str, metric: str, names: Sequence[str]
) -> None:
    """Add mean, low, high and n of a metric to the rows, under `metric:name`."""
    _, mean, low, high, count = names
    counted = frame[frame[metric].notna()]
    cell, values = counted["cell"], counted[metric]
    if counted.duplicated(["cell", unit]).any():
        values = counted.groupby(["cell", unit], dropna=False)[metric].mean()
        cell = values.index.to_frame()["cell"]
    groups = values.groupby(cell)
    means = groups.mean().reindex(rows.index).to_numpy(float)
    n = groups.count().reindex(rows.index, fill_value=0).to_numpy(int)
    half = half_width(groups.std(ddof=1).reindex(rows.index).to_numpy(float), n)
    rows[f"{metric}:{mean}"] = means
    rows[f"{metric}:{low}"], rows[f"{metric}:{high}"] = means - half, means + half
    rows[f"{metric}:{count}"] = n


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
    score: npt.NDArray[np.float64] = rows[f"{metric}:mean"].to_numpy(float)
    lost, place = rows["lost"].to_numpy(), rows["place"].to_numpy()
    keys = (score, lost) if metric.endswith("loss") else (-score.round(12), lost > 0)
    order = np.lexsort((place, *keys))
    found = rows.iloc[order]
    return found[found[f"{metric}:mean"].notna()]


def best(rows: pd.DataFrame, metric: str) -> int | None:
    """Return the number of the best cell of some rows (see `ranked`); None if none has a value."""
    found = ranked(rows, metric)
    return int(found.index[0]) if len(found) else None


def choosing_metric(jobs: pd.DataFrame) -> str:
    """Column that decides which cell is best: validation accuracy, or what stands in for it."""
    return "val_accuracy" if jobs["val_accuracy"].notna().any() else "train_accuracy"
