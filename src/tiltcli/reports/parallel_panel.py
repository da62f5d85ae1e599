"""All axes of a run at once, for the page: a line per cell, and the importance of each axis."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from tiltcli.evaluation.facets import short, value_text
from tiltcli.evaluation.importance import DEFINITION, importances

MOST_LINES = 400


def parallel(jobs: pd.DataFrame, metric: str) -> dict[str, Any] | None:
    """Axes, their importances and the cells' places on them; None for fewer than two axes."""
    cells, found = importances(jobs, metric)
    rows = cells.rows[cells.rows[f"{metric}:n"] > 0].sort_values(f"{metric}:mean", kind="stable")
    if len(found) < 2 or len(rows) < 4:
        return None
    whole = len(rows)
    rows = rows.iloc[np.unique(np.linspace(0, whole - 1, MOST_LINES).round().astype(int))]
    axes = []
    for one in found:
        values = sorted(cells.rows[one.setting].dropna().unique().tolist(), key=_rising)
        places = {value: place for place, value in enumerate(values)}
        axes.append(
            {
                "name": axis_name(one.setting),
                "levels": [value_text(one.setting, value) for value in values],
                "at": [places.get(value, -1) for value in rows[one.setting]],
                **{key: _number(getattr(one, key)) for key in ("share", "low", "high")},
            }
        )
    means = [round(float(value), 6) for value in rows[f"{metric}:mean"]]
    return {"metric": metric, "cells": whole, "axes": axes, "means": means}


def axis_name(setting: str) -> str:
    """Name of an axis among others."""
    return "loss" if setting == "loss.kind" else short(setting, symbols=False).replace("_", " ")


def in_words(jobs: pd.DataFrame, metric: str) -> str:
    """Return the importances of a run's axes in one sentence; empty for fewer than two axes."""
    found = [one for one in importances(jobs, metric)[1] if not math.isnan(one.share)]
    if len(found) < 2:
        return ""
    parts = [
        f"{axis_name(one.setting)} {one.share:.0%}"
        + ("" if math.isnan(one.low) else f" ({one.low:.0%} … {one.high:.0%})")
        for one in found
    ]
    return f"Of the variance of {metric.replace('_', ' ')}: {', '.join(parts)}. {DEFINITION}"


def _rising(value: Any) -> tuple[bool, Any]:
    return isinstance(value, str), value


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
