"""What a page knows of a run, as JSON for its figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tiltcli.evaluation.cells import Cells, choosing_metric
from tiltcli.reports.curve_series import curves
from tiltcli.reports.gamma_panel import weights
from tiltcli.reports.instability_tables import Watched, enlarged
from tiltcli.reports.job_list import job_table
from tiltcli.reports.loaded_runs import CURVES, Run
from tiltcli.reports.one_training import panels, single
from tiltcli.reports.pack import floats, shares
from tiltcli.reports.page_cells import PageCells, page_cells, whole
from tiltcli.reports.parallel_panel import parallel

CURVES_BYTES, MOST_ROWS = 6_000_000, 3000
"""What all runs of a page share: room for curves, and rows of job tables."""

_PROBES = ("hessian_max", "hessian_max_static", "ntk_max")


def run_data(run: Run, runs: int, watched: Sequence[Watched]) -> dict[str, Any]:
    """Return everything a page shows of a run but its texts and its valley."""
    tables = run.tables
    metrics = run.metrics or ["train_accuracy"]
    judge = choosing_metric(tables.jobs)
    page = page_cells(tables.jobs, list(dict.fromkeys((*metrics, judge))))
    cells, widths = page.cells, page.widths(judge)
    static = cells.rows.index[cells.rows["static"]].tolist()
    best = [one["best"] for one in widths if one["best"] is not None]
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
        "curves": _blocks(run, page, [*static, *best], budget),
        "probes": _probes(run, page, [*static, *best], budget / 4),
        "parallel": parallel(tables.jobs, judge),
        "weights": weights(run, page.rows, best),
        "trace": None if one is None else panels(one, found=own),
        "zooms": enlarged(watched),
        "onsets": _onsets(cells, watched),
        "jobs": job_table(run, max(MOST_ROWS // runs, 300)),
    }


def _cells(found: PageCells) -> dict[str, Any]:
    rows = found.rows
    page: dict[str, Any] = {
        name.rpartition(".")[2]: [whole(value) for value in rows[name]]
        for name in (
            *("outer", "view", "model.width", "loss.period"),
            *("jobs", "diverged", "failed"),
        )
    }
    page["static"] = rows["static"].astype(int).tolist()
    for name in ("loss.amplitude", "bound"):
        key = name.rpartition(".")[2]
        page[key] = [None if pd.isna(value) else float(value) for value in rows[name]]
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
        for metric in found.cells.metrics
    }
    return page


def _blocks(run: Run, page: PageCells, first: Sequence[int], budget: float) -> list[dict[str, Any]]:
    metrics = run.tables.metrics
    columns = {name: name.endswith("accuracy") for name in CURVES if metrics[name].notna().any()}
    return curves(run.tables.jobs, metrics, columns, page, first, budget)


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
