"""What a page knows of a run, as JSON for its figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tiltcli.evaluation.cells import choosing_metric
from tiltcli.report.aggregate import Cells, best_of, gather, regime_of
from tiltcli.report.curve_series import curves
from tiltcli.report.gamma_panel import weights
from tiltcli.report.instability_tables import Watched, enlarged
from tiltcli.report.job_list import job_table
from tiltcli.report.loaded_runs import CURVES, Run
from tiltcli.report.one_training import panels, single
from tiltcli.report.pack import floats, shares

CURVES_BYTES, MOST_ROWS = 6_000_000, 3000
"""What all runs of a page share: room for curves, and rows of job tables."""

_PROBES = ("hessian_max", "hessian_max_static", "ntk_max")


def run_data(run: Run, runs: int, watched: Sequence[Watched]) -> dict[str, Any]:
    """Return everything a page shows of a run but its texts and its valley.

    Args:
        run: the run.
        runs: number of runs on the page.
        watched: its trainings whose every step was logged.

    """
    tables = run.tables
    metrics = run.metrics or ["train_accuracy"]
    judge = choosing_metric(tables.jobs)
    cells = gather(tables.jobs, metrics)
    widths = _widths(cells, judge)
    static = cells.rows.index[cells.rows["static"]].tolist()
    best = [one["best"] for one in widths if one["best"] is not None]
    budget = CURVES_BYTES / runs
    one = single(run)
    own = next((w.found for w in watched if one is not None and w.trace.job == one.job), [])
    return {
        "metrics": metrics,
        "judge": judge,
        "views": list(cells.views),
        "outer_of": list(cells.outer_of),
        "cells": _cells(cells),
        "widths": widths,
        "curves": _blocks(run, cells, [*static, *best], budget),
        "probes": _probes(run, cells, [*static, *best], budget / 4),
        "weights": weights(run, cells.rows, best),
        "trace": None if one is None else panels(one, found=own),
        "zooms": enlarged(watched),
        "onsets": _onsets(cells, watched),
        "jobs": job_table(run, max(MOST_ROWS // runs, 300)),
    }


def _widths(cells: Cells, judge: str) -> list[dict[str, Any]]:
    rows = cells.rows
    found = []
    for view, outer in enumerate(cells.outer_of):
        own = rows[(rows["view"] == view) | (rows["static"] & (rows["outer"] == outer))]
        for width in sorted(own["width"].unique()):
            here = own[own["width"] == width]
            found.append(
                {
                    "view": view,
                    "width": int(width),
                    "regime": regime_of(rows, outer, width),
                    "best": best_of(rows, view, width, judge),
                    "parameters": _whole(here["parameters"].max()),
                    "samples": _whole(here["train_samples"].max()),
                }
            )
    return found


def _cells(cells: Cells) -> dict[str, Any]:
    rows = cells.rows
    page: dict[str, Any] = {
        name: [_whole(value) for value in rows[name]]
        for name in ("outer", "view", "width", "period", "jobs", "diverged", "failed")
    }
    page["static"] = rows["static"].astype(int).tolist()
    for name in ("amplitude", "bound"):
        page[name] = [None if pd.isna(value) else float(value) for value in rows[name]]
    page["stats"] = {
        metric: {
            "mean": shares(rows[f"{metric}:mean"]),
            "low": shares(rows[f"{metric}:low"]),
            "high": shares(rows[f"{metric}:high"]),
            "n": rows[f"{metric}:n"].tolist(),
            "change": floats(rows[f"{metric}:change"]),
            "change_low": floats(rows[f"{metric}:change_low"]),
            "change_high": floats(rows[f"{metric}:change_high"]),
            "pairs": rows[f"{metric}:pairs"].tolist(),
        }
        for metric in cells.metrics
    }
    return page


def _whole(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)


def _blocks(run: Run, cells: Cells, first: Sequence[int], budget: float) -> list[dict[str, Any]]:
    metrics = run.tables.metrics
    columns = {name: name.endswith("accuracy") for name in CURVES if metrics[name].notna().any()}
    return curves(run.tables.jobs, metrics, columns, cells, first, budget)


def _probes(run: Run, cells: Cells, first: Sequence[int], budget: float) -> list[dict[str, Any]]:
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
    return curves(run.tables.jobs, logs, columns, cells, first, budget, back=np.exp)


def _onsets(cells: Cells, watched: Sequence[Watched]) -> dict[str, list[int]]:
    """Epochs at which instabilities begin, of all trainings of a cell; by cell."""
    found: dict[str, list[int]] = {}
    for one in watched:
        steps = [each.onset for each in one.found]
        found.setdefault(str(cells.of_job[one.trace.job.id]), []).extend(steps)
    return {cell: sorted(steps) for cell, steps in found.items() if steps}
