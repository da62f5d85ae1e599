"""The table of jobs, cut where it would be too long, lost jobs first to stay."""

from __future__ import annotations

from typing import Any

import pandas as pd

from tiltcli.errors import Outcome
from tiltcli.grid.settings import PATHS
from tiltcli.reports.loaded_runs import Run

_FIRST = ("model.width", "loss.kind", "loss.amplitude", "loss.period", "train.seed")
_RESULTS = ("train_accuracy", "val_accuracy", "test_accuracy", "train_loss", "epochs", "seconds")
LONGEST_ERROR = 6000


def job_table(run: Run, most: int) -> dict[str, Any]:
    """Columns and rows of the jobs."""
    jobs = run.tables.jobs
    lost = jobs["outcome"] != Outcome.COMPLETED
    kept = jobs
    if len(jobs) > most:
        room = max(most // 2, most - int((~lost).sum()))
        bad = jobs[lost].head(room)
        good = jobs[~lost].head(most - len(bad))
        kept = pd.concat([bad, good])
    columns = ["job", "outcome", *_settings(jobs)]
    columns += [name for name in _RESULTS if jobs[name].notna().any()]
    errors: dict[str, int] = {}
    rows = []
    texts = kept["error"].fillna("")
    values = [[_bare(value) for value in kept[name]] for name in columns]
    for one, text in zip(zip(*values, strict=True), texts, strict=True):
        text = text if len(text) <= LONGEST_ERROR else "…\n" + text[-LONGEST_ERROR:]
        rows.append([*one, errors.setdefault(text, len(errors)) if text else -1])
    return {
        "columns": columns,
        "rows": rows,
        "errors": list(errors),
        "total": len(jobs),
        "lost": int(lost.sum()),
        "lost_shown": int((kept["outcome"] != Outcome.COMPLETED).sum()),
    }


def _settings(jobs: pd.DataFrame) -> list[str]:
    """Settings that vary, the well-known ones first."""
    named = [str(name) for name in jobs.columns if "." in str(name) and name not in PATHS]
    varying = [name for name in named if jobs[name].nunique() > 1]
    first = [name for name in _FIRST if jobs[name].nunique() > 0]
    return [*first, *(name for name in varying if name not in first)]


def _bare(value: Any) -> Any:
    if value is None or pd.isna(value):
        return None
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 1e15 else float(f"{value:.6g}")
    return value
