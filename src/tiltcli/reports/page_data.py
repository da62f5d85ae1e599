"""What a page knows of a run, as JSON for its figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tiltcli.analysis.thinning import evenly
from tiltcli.analysis.traces import pick
from tiltcli.curvature.stability import stability_bound
from tiltcli.errors import Outcome, UserError
from tiltcli.evaluation.cells import Cells, best, choosing_metric, combined, gather
from tiltcli.evaluation.facets import named, telling, value_text
from tiltcli.evaluation.importance import axis_name, importances
from tiltcli.grid.settings import PATHS, stepping
from tiltcli.reports.loaded_runs import CURVES, Run
from tiltcli.reports.page_series import curves, floats, shares
from tiltcli.reports.trainings import Watched, enlarged, panels, single
from tiltcli.schedule import Schedule

CURVES_BYTES, MOST_ROWS = 6_000_000, 3000
"""What all runs of a page share: room for curves, and rows of job tables."""

_PROBES = ("hessian_max", "hessian_max_static", "ntk_max")


def run_data(run: Run, runs: int, watched: Sequence[Watched]) -> dict[str, Any]:
    """Return everything a page shows of a run but its texts and its valley."""
    jobs, logged = run.tables.jobs, run.tables.metrics
    metrics = run.metrics or ["train_accuracy"]
    judge = choosing_metric(jobs)
    page = page_cells(jobs, list(dict.fromkeys((*metrics, judge))))
    cells, widths = page.cells, page.widths(judge)
    best = [one["best"] for one in widths if one["best"] is not None]
    first = [*cells.rows.index[cells.rows["static"]].tolist(), *best]
    along = {name: name.endswith("accuracy") for name in CURVES if logged[name].notna().any()}
    budget = CURVES_BYTES / runs
    one = single(run)
    own = next((w.found for w in watched if one is not None and w.trace.job == one.job), [])
    return {
        "metrics": metrics,
        "judge": judge,
        "views": list(page.views),
        "outer_of": list(page.outer_of),
        "cells": _cells(page),
        "widths": widths,
        "curves": curves(jobs, logged, along, page, first, budget),
        "probes": _probes(run, page, first, budget / 4),
        "parallel": parallel(jobs, judge),
        "weights": weights(run, page.rows, best),
        "trace": None if one is None else panels(one, found=own),
        "zooms": enlarged(watched),
        "onsets": _onsets(cells, watched),
        "jobs": job_table(run, max(MOST_ROWS // runs, 300)),
    }


def _cells(found: PageCells) -> dict[str, Any]:
    rows = found.rows
    wholes = ("outer", "view", "model.width", "loss.period", "jobs", "diverged", "failed")
    page: dict[str, Any] = {name.rpartition(".")[2]: _bare(rows[name]) for name in wholes}
    page["static"] = rows["static"].astype(int).tolist()
    for name in ("loss.amplitude", "bound"):
        known = rows[name].astype(object).where(rows[name].notna(), None)
        page[name.rpartition(".")[2]] = known.tolist()
    packs: dict[str, Callable[[Any], Any]] = {
        **dict.fromkeys(("mean", "low", "high"), shares),
        "n": list,
        **dict.fromkeys(("change", "change_low", "change_high"), floats),
        "pairs": list,
    }
    page["stats"] = {
        metric: {name: pack(rows[f"{metric}:{name}"].tolist()) for name, pack in packs.items()}
        for metric in found.cells.metrics
    }
    return page


def _probes(run: Run, page: PageCells, first: Sequence[int], budget: float) -> list[dict[str, Any]]:
    probes = run.tables.probes
    there = [name for name in _PROBES if name in probes and probes[name].notna().any()]
    if not there:
        return []
    # On a 2-cycle λ_max is on a higher and a lower branch by turns: of two in a row the higher.
    values = probes[there].to_numpy(float, copy=True)
    if "hessian_max" in there:
        same = np.append(False, probes["job"].to_numpy()[1:] == probes["job"].to_numpy()[:-1])
        column = values[:, there.index("hessian_max")]
        column[1:] = np.where(same[1:], np.fmax(column[1:], column[:-1].copy()), column[1:])
    # A cell's curvature swings over decades: the mean is of its logarithm.
    logs = probes[["job", "epoch"]].copy()
    logs[there] = np.log(np.where(values > 0, values, np.nan))
    columns = dict.fromkeys(there, False)
    return curves(run.tables.jobs, logs, columns, page, first, budget, back=np.exp)


def _onsets(cells: Cells, watched: Sequence[Watched]) -> dict[str, list[int]]:
    """Epochs at which instabilities begin, of all trainings of a cell; by cell."""
    found: dict[str, list[int]] = {}
    for one in watched:
        steps = [each.onset for each in one.found]
        found.setdefault(str(cells.of_job[one.trace.job.id]), []).extend(steps)
    return {cell: sorted(steps) for cell, steps in found.items() if steps}


SCHEDULE = ("rest", "shape", "order", "groups", "timing", "half_life")
WIDTH, AXES = "model.width", ("loss.amplitude", "loss.period")


@dataclass(frozen=True)
class PageCells:
    """The cells of a run, and its views."""

    cells: Cells  # the table
    # its rows, and of each cell `outer` and `view` (numbers; a static cell's view is −1 where there
    # are tilted ones), the settings of `SCHEDULE`, and `bound` (of λ_max, NaN where theory has
    # none)
    rows: pd.DataFrame
    # what tells one phase diagram from another (settings beside width, amplitude and period that
    # vary), as text; one empty text where nothing does
    views: tuple[str, ...]
    # for each view, the number of its settings outside the loss: the static cells with that `outer`
    # belong to it
    outer_of: tuple[int, ...]

    def widths(self, metric: str) -> list[dict[str, Any]]:
        """Return what is known of each width of each view: its regime, its best cell, its sizes."""
        rows, found = self.rows, []
        for view, outer in enumerate(self.outer_of):
            own = rows[(rows["view"] == view) | (rows["static"] & (rows["outer"] == outer))]
            for _, here in own.groupby(WIDTH):
                parameters, samples = _bare(here[["parameters", "train_samples"]].max())
                found.append(
                    {
                        "view": view,
                        "width": int(here[WIDTH].iloc[0]),
                        "regime": str(here["regime"].iloc[0]),
                        "best": best(here[~here["static"]], metric),
                        "parameters": parameters,
                        "samples": samples,
                    }
                )
        return found


def page_cells(jobs: pd.DataFrame, metrics: Sequence[str]) -> PageCells:
    """Return the cells of some jobs, in views."""
    cells = gather(jobs, metrics)
    numbered = jobs.drop_duplicates("job").assign(cell=cells.of_job.to_numpy())
    first = numbered.drop_duplicates("cell").sort_values("cell")
    extra = {f"loss.{name}": first[f"loss.{name}"].to_numpy() for name in SCHEDULE}
    names = list(stepping())
    stepped = first[names].astype(object).where(first[names].notna(), None)
    bounds = [_bound(dict(zip(names, row, strict=True))) for row in stepped.itertuples(index=False)]
    rows = cells.rows.assign(**extra, bound=bounds)
    rows[WIDTH] = rows[WIDTH].fillna(0)  # of a user's network that takes none
    outside = [key for key in cells.outside if key != WIDTH]
    inside = [key for key in cells.inside if key not in AXES]
    rows["outer"] = combined(rows, outside)
    tilted = rows if rows["static"].all() else rows[~rows["static"]]
    rows["view"] = combined(tilted, [*outside, *inside]).reindex(rows.index, fill_value=-1)
    one_each = rows.loc[tilted.index].drop_duplicates("view").sort_values("view")
    apart = telling(one_each, [*outside, *inside])
    views = tuple(named({key: one[key] for key in apart}) for _, one in one_each.iterrows())
    return PageCells(cells, rows, views, tuple(one_each["outer"].astype(int)))


def _bound(settings: dict[str, Any]) -> float:
    """Bound of λ_max under some settings; NaN where there is none, or it is not always the same."""
    found = stability_bound(settings)
    if found is None or found.column != "hessian_max" or settings.get("train.lr_schedule"):
        return np.nan
    return found.at(settings["train.lr"])


MOST_SCHEDULES, POINTS = 1000, 97


def classes_of(run: Run) -> int | None:
    """Number of classes; None if the run's data is no longer there to be counted."""
    known = run.tables.jobs["data.classes"].dropna()
    if len(known):
        return int(known.iloc[0])
    try:
        return pick(run.folder, run.tables).classes
    except (UserError, OSError):
        return None


def weights(run: Run, rows: pd.DataFrame, first: list[int]) -> dict[str, Any]:
    """One pulse of each schedule of the run that repeats its pulses class by class."""
    classes = classes_of(run)
    numbers: dict[Schedule, int] = {}
    of_cell: dict[str, int] = {}
    if classes is not None and classes >= 2:
        # Of the others one pulse is not the whole story.
        usual = rows["loss.order"].eq("cyclic") & rows["loss.timing"].eq("pulse")
        usual &= rows["loss.groups"].eq("class") & rows["loss.half_life"].eq(0)
        dynamical = rows[usual & ~rows["static"]]
        order = dynamical.index[np.argsort(~dynamical.index.isin(first), kind="stable")]
        keys = ["loss.amplitude", "loss.period", "loss.rest", "loss.shape"]
        for cell, amplitude, period, rest, shape in dynamical.loc[order, keys].itertuples():
            schedule = Schedule(classes, amplitude, int(period), int(rest), shape=shape)
            if schedule in numbers or len(numbers) < MOST_SCHEDULES:
                of_cell[str(cell)] = numbers.setdefault(schedule, len(numbers))
    return {"classes": classes, "of_cell": of_cell, "schedules": list(map(_pulse, numbers))}


def _pulse(schedule: Schedule) -> dict[str, Any]:
    """Weights at every step of a short pulse, and at even distances of a long one."""
    # The peak, and where the rest begins, are corners of the line.
    corners = [c for c in (schedule.period // 2, schedule.period) if c < schedule.pulse]
    steps = np.unique([*evenly(schedule.pulse, POINTS), *corners])
    gammas = schedule.gamma(steps)
    return {
        "pulse": schedule.pulse,
        "steps": steps.tolist(),
        "up": floats(gammas[:, 0]),
        "down": floats(gammas[:, 1]),
    }


_FIRST = ("model.width", "loss.kind", "loss.amplitude", "loss.period", "train.seed")
_RESULTS = ("train_accuracy", "val_accuracy", "test_accuracy", "train_loss", "epochs", "seconds")
LONGEST_ERROR = 6000


def job_table(run: Run, most: int) -> dict[str, Any]:
    """Columns and rows of the jobs."""
    jobs = run.tables.jobs
    lost = jobs["outcome"] != Outcome.COMPLETED
    kept = jobs
    if len(jobs) > most:  # at most half of them lost ones, unless there is room to spare
        bad = jobs[lost].head(max(most // 2, most - int((~lost).sum())))
        kept = pd.concat([bad, jobs[~lost].head(most - len(bad))])
    errors = kept["error"].fillna("")
    settings = [str(name) for name in jobs.columns if "." in str(name) and name not in PATHS]
    varying = [name for name in settings if jobs[name].nunique() > 1]
    first = [name for name in _FIRST if jobs[name].nunique() > 0]
    results = [name for name in _RESULTS if jobs[name].notna().any()]
    columns = list(dict.fromkeys(["job", "outcome", *first, *varying, *results]))
    texts = [one if len(one) <= LONGEST_ERROR else "…\n" + one[-LONGEST_ERROR:] for one in errors]
    numbers = {text: number for number, text in enumerate(dict.fromkeys(filter(None, texts)))}
    values = [*(_bare(kept[name]) for name in columns), [numbers.get(one, -1) for one in texts]]
    return {
        "columns": columns,
        "rows": [list(row) for row in zip(*values, strict=True)],
        "errors": list(numbers),
        "total": len(jobs),
        "lost": int(lost.sum()),
        "lost_shown": int((kept["outcome"] != Outcome.COMPLETED).sum()),
    }


def _bare(values: pd.Series[Any]) -> list[Any]:
    """Values as JSON has them: whole numbers without a point, six digits of others, null."""

    def bare(value: Any) -> Any:
        if not isinstance(value, float):
            return value
        whole = value.is_integer() and abs(value) < 1e15
        return int(value) if whole else float(f"{value:.6g}")

    return list(map(bare, values.astype(object).where(values.notna(), None).tolist()))


MOST_LINES = 400


def parallel(jobs: pd.DataFrame, metric: str) -> dict[str, Any] | None:
    """Axes, their importances and the cells' places on them; None for fewer than two axes."""
    cells, found = importances(jobs, metric)
    rows = cells.rows[cells.rows[f"{metric}:n"] > 0].sort_values(f"{metric}:mean", kind="stable")
    if len(found) < 2 or len(rows) < 4:
        return None
    whole = len(rows)
    rows = rows.iloc[evenly(whole, MOST_LINES)]
    axes = []
    for one in found:
        known = cells.rows[one.setting].dropna().unique().tolist()
        values = sorted(known, key=lambda value: (isinstance(value, str), value))
        sure = {"share": one.share, "low": one.low, "high": one.high}
        axes.append(
            {
                "name": axis_name(one.setting),
                "levels": [value_text(one.setting, value) for value in values],
                "at": [-1 if pd.isna(v) else values.index(v) for v in rows[one.setting]],
                **{key: None if math.isnan(x) else round(x, 4) for key, x in sure.items()},
            }
        )
    means = [round(float(value), 6) for value in rows[f"{metric}:mean"]]
    return {"metric": metric, "cells": whole, "axes": axes, "means": means}
