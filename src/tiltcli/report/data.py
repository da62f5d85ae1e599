"""What a page knows of a run, as JSON for its figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tiltcli.cells import judge as judge_of
from tiltcli.report.aggregate import Cells, best_of, gather, regime_of
from tiltcli.report.listing import job_table
from tiltcli.report.load import Run
from tiltcli.report.pack import floats, shares
from tiltcli.report.series import curves
from tiltcli.report.single import panels, single
from tiltcli.report.weights import weights

CURVES_BYTES, MOST_ROWS = 6_000_000, 3000
"""What all runs of a page share: room for curves, and rows of job tables."""

_CURVES = {"train_accuracy": True, "val_accuracy": True, "train_loss": False}
_PROBES = ("hessian_max", "hessian_max_static", "ntk_max")


def run_data(run: Run, runs: int) -> dict[str, Any]:
    """Everything a page shows of a run but its texts.

    Args:
        run: the run.
        runs: number of runs on the page.

    """
    tables = run.tables
    metrics = run.metrics or ["train_accuracy"]
    judge = judge_of(tables.jobs)
    cells = gather(tables.jobs, metrics)
    widths = _widths(cells, judge)
    static = cells.rows.index[cells.rows["static"]].tolist()
    best = [one["best"] for one in widths if one["best"] is not None]
    budget = CURVES_BYTES / runs
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
        "trace": None if (one := single(run)) is None else panels(one),
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
    for name in ("amplitude", "lr"):
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
    columns = {name: share for name, share in _CURVES.items() if metrics[name].notna().any()}
    return curves(run.tables.jobs, metrics, columns, cells, first, budget)


def _probes(run: Run, cells: Cells, first: Sequence[int], budget: float) -> list[dict[str, Any]]:
    probes = run.tables.probes
    there = [name for name in _PROBES if name in probes and probes[name].notna().any()]
    if not there:
        return []
    # A cell's curvature swings over decades: the mean is of its logarithm.
    logs = probes[["job", "epoch"]].copy()
    for name in there:
        values = probes[name].to_numpy(float)
        logs[name] = np.log10(np.where(values > 0, values, np.nan))
    return curves(run.tables.jobs, logs, dict.fromkeys(there, False), cells, first, budget)
