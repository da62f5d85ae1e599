"""A run's jobs gathered into cells: jobs that differ by nothing but their seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tiltcli.analysis.traces import bound_of
from tiltcli.errors import Outcome
from tiltcli.evaluation.cells import FITTED, OVER, REPLICATES, UNDER, UNKNOWN
from tiltcli.evaluation.texts import plain
from tiltcli.grid.settings import PATHS
from tiltcli.statistics import half_width

CELL = ("model.width", "loss.amplitude", "loss.period")
_APART = {*CELL, *REPLICATES, *PATHS, "loss.kind"}


@dataclass(frozen=True)
class Cells:
    """The cells of a run.

    Attributes:
        rows: one row per cell, in the order of the settings: `static` (flag), `outer` and `view`
            (numbers), width, amplitude, period, rest, shape, jobs, diverged, failed, parameters,
            train_samples, bound (of λ_max, NaN where theory has none); for each metric
            `<metric>:mean`, `:low`, `:high` (95% interval of the mean over the
            completed jobs), `:n`; and for dynamical cells the same of the differences to
            static, paired by seed, as `<metric>:change`, `:change_low`, `:change_high`, `:pairs`.
        views: what tells one phase diagram from another (settings beside width, amplitude and
            period that vary), as text; one empty text where nothing does.
        outer_of: for each view, the number of its settings outside the loss: the static cells with
            that `outer` belong to it.
        of_job: number of the cell of each job, by job id.
        metrics: the metrics.

    """

    rows: pd.DataFrame
    views: tuple[str, ...]
    outer_of: tuple[int, ...]
    of_job: pd.Series[int]
    metrics: tuple[str, ...]


def gather(jobs: pd.DataFrame, metrics: Sequence[str]) -> Cells:
    """Return the cells of jobs.

    Args:
        jobs: jobs table of a run, not empty.
        metrics: result columns to average.

    """
    settings = [str(name) for name in jobs.columns if "." in str(name)]
    varying = [s for s in settings if s not in _APART and jobs[s].nunique(dropna=False) > 1]
    outside = [s for s in varying if not s.startswith("loss.") or s == "loss.base"]
    still = jobs["loss.kind"] == "static"
    inside = [
        s for s in varying if s not in outside and jobs.loc[~still, s].nunique(dropna=False) > 1
    ]
    outer = _numbered(jobs, outside)
    view = _numbered(jobs[~still], [*outside, *inside]).reindex(jobs.index, fill_value=-1)
    if still.all():
        view = outer
    keyed = jobs.assign(outer=outer, view=view.where(~still, -1), static=still)
    keys = ["outer", "view", *CELL]
    number = keyed.groupby(keys, dropna=False, sort=True).ngroup()
    keyed = keyed.assign(cell=number)
    first = keyed.groupby("cell", sort=True).first()
    rows = pd.DataFrame(
        {
            "static": first["static"],
            "outer": first["outer"],
            "view": first["view"],
            "width": first["model.width"],
            "amplitude": first["loss.amplitude"].astype(float),
            "period": first["loss.period"].astype(float),
            "rest": first["loss.rest"].astype(float),
            "shape": first["loss.shape"],
            "bound": _bounds(first),
            "parameters": keyed.groupby("cell")["parameters"].max(),
            "train_samples": keyed.groupby("cell")["train_samples"].max(),
            "jobs": keyed.groupby("cell").size(),
        }
    )
    for outcome in (Outcome.DIVERGED, Outcome.FAILED):
        ended = keyed["outcome"] == outcome
        rows[str(outcome)] = ended.groupby(keyed["cell"]).sum()
    done = keyed[keyed["outcome"] == Outcome.COMPLETED]
    for metric in metrics:
        _average(rows, done, metric, (metric, "mean", "low", "high", "n"))
        pairs = _differences(done, metric)
        _average(rows, pairs, metric, (metric, "change", "change_low", "change_high", "pairs"))
    shown = keyed if still.all() else keyed[~still]
    names = outside if still.all() else [*outside, *inside]
    one_each = shown.groupby(view[shown.index], sort=True).first()
    views = tuple(
        ", ".join(f"{name.removeprefix('train.')} {plain(one[name])}" for name in names)
        for _, one in one_each.iterrows()
    )
    outers = tuple(int(n) for n in one_each["outer"])
    return Cells(rows, views, outers, number.set_axis(jobs["job"]), tuple(metrics))


_STEPPING = ("optimizer", "nesterov", "lr_schedule", "weight_decay", "momentum", "lr")


def _bounds(first: pd.DataFrame) -> list[float]:
    """Bound of λ_max of each cell, from a job of it."""
    names = [f"train.{name}" for name in _STEPPING]
    known: dict[Any, float] = {}
    bounds = []
    for values in first[names].itertuples(index=False, name=None):
        sound = tuple(None if pd.isna(value) else value for value in values)
        if sound not in known:
            found = bound_of(dict(zip(names, sound, strict=True)))
            known[sound] = np.nan if found is None else found
        bounds.append(known[sound])
    return bounds


def _numbered(jobs: pd.DataFrame, keys: list[str]) -> pd.Series[int]:
    if not keys:
        return pd.Series(0, index=jobs.index)
    return jobs.groupby(keys, dropna=False, sort=True).ngroup()


def _average(rows: pd.DataFrame, jobs: pd.DataFrame, metric: str, names: Sequence[str]) -> None:
    """Add mean, low, high and n of a metric to the rows, under `metric:name`."""
    _, mean, low, high, count = names
    groups = jobs.groupby("cell")[metric]
    means = groups.mean().reindex(rows.index).to_numpy(float)
    n = groups.count().reindex(rows.index, fill_value=0).to_numpy(int)
    half = half_width(groups.std(ddof=1).reindex(rows.index).to_numpy(float), n)
    rows[f"{metric}:{mean}"] = means
    rows[f"{metric}:{low}"], rows[f"{metric}:{high}"] = means - half, means + half
    rows[f"{metric}:{count}"] = n


def _differences(done: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Dynamical − static of jobs with the same seeds and settings outside the loss."""
    pair = ["outer", "model.width", *REPLICATES]
    static = done[done["static"]].groupby(pair, dropna=False, as_index=False)[metric].mean()
    both = done[~done["static"]][[*pair, "cell", metric]].merge(
        static, on=pair, suffixes=("", ":static")
    )
    return both.assign(**{metric: both[metric] - both[f"{metric}:static"]})


def regime_of(rows: pd.DataFrame, outer: int, width: int) -> str:
    """Regime of a width: whether its static jobs fit the training data (see `comparison`)."""
    static = rows[rows["static"] & (rows["outer"] == outer) & (rows["width"] == width)]
    level = static.get("train_accuracy:mean", pd.Series(dtype=float)).dropna()
    if level.empty:
        return UNKNOWN
    return OVER if float(level.iloc[0]) >= FITTED else UNDER


def best_of(rows: pd.DataFrame, view: int, width: int, metric: str) -> int | None:
    """Return the number of a width's dynamical cell with the highest mean; None for none.

    As in `tiltcli confirm`, cells in which a job was lost are left out, and of equal cells the
    first counts.
    """
    own = rows[(rows["view"] == view) & (rows["width"] == width) & ~rows["static"]]
    own = own[(own["diverged"] == 0) & (own["failed"] == 0)]
    scores = own[f"{metric}:mean"].dropna()
    return int(scores.index.to_numpy()[scores.to_numpy().argmax()]) if len(scores) else None
