"""From a phase sweep to its confirmation: what validation chose, on seeds nobody has looked at."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tiltcli.errors import Outcome, UserError, with_suggestion
from tiltcli.grid import load_run
from tiltcli.grid.settings import SETTINGS
from tiltcli.store.read import find_run, read_jobs

FIRST_FRESH_SEED = 100


@dataclass(frozen=True)
class Choice:
    """The cell chosen for one setting of everything outside the loss.

    Attributes:
        group: settings outside the loss that vary in the sweep, by key (`model.width` …).
        cell: settings of the loss that vary, at the chosen values.
        score: mean of the metric over the cell's jobs.
        jobs: number of jobs in that mean.
        cells: number of cells it was chosen from.

    """

    group: Mapping[str, Any]
    cell: Mapping[str, Any]
    score: float
    jobs: int
    cells: int


def choose(jobs: pd.DataFrame, axes: Mapping[str, Any], metric: str) -> list[Choice]:
    """Choose per group the dynamical cell with the highest mean of `metric`.

    Cells in which a job diverged are left out: their mean would be of the lucky seeds. Of equal
    cells the first in the order of amplitude and period is taken.

    Args:
        jobs: jobs table of a run.
        axes: the run's axes.
        metric: a result column, such as val_accuracy.

    Raises:
        UserError: if the metric is unknown or missing, or there is no dynamical job.

    """
    results = [name for name in jobs.columns if name.endswith(("accuracy", "loss"))]
    if metric not in results:
        raise UserError(with_suggestion(f"--metric: no column {metric}", metric, results))
    dynamical = jobs[jobs["loss.kind"] == "dynamical"]
    if dynamical.empty:
        raise UserError("the run has no dynamical jobs to choose from")
    if dynamical[metric].isna().all():
        raise UserError(f"the run has no {metric} to choose by: its data has no such part")
    names = [key for key in axes if key not in ("train.seed", "loss.kind")]
    inside = [key for key in names if key.startswith("loss.")]
    outside = [key for key in names if not key.startswith("loss.")]
    rows = dynamical.assign(
        sound=dynamical["outcome"] == Outcome.COMPLETED,
        score=-dynamical[metric] if metric.endswith("loss") else dynamical[metric],
    )
    keys = [*outside, *inside] or ["loss.kind"]
    means = rows.groupby(keys, dropna=False, sort=True).agg(
        score=("score", "mean"), sound=("sound", "all"), jobs=("score", "size")
    )
    means = means[means["sound"]].reset_index()
    if means.empty:
        raise UserError("every cell of the run has diverged or failed jobs: nothing to confirm")
    chosen = []
    groups = means.groupby(outside, sort=True) if outside else [((), means)]
    for _, cells in groups:
        # argmax takes the first of equals; sort=True above made the order that of the settings.
        best = cells.iloc[int(cells["score"].argmax())]
        chosen.append(
            Choice(
                {key: _plain(key, best[key]) for key in outside},
                {key: _plain(key, best[key]) for key in inside},
                abs(float(best["score"])),
                int(best["jobs"]),
                len(cells),
            )
        )
    return chosen


def confirmation_grid(
    run: str | Path,
    *,
    results: str | Path = "results",
    metric: str = "val_accuracy",
    seeds: int = 20,
    folder: str | Path = ".",
) -> str:
    """Write the grid that confirms a run: per group its chosen cell and static, on fresh seeds.

    Args:
        run: a run with dynamical cells, by name or path.
        results: folder that runs are kept under.
        metric: column whose mean chooses.
        seeds: number of fresh seeds; they begin at 100, or after the run's own.
        folder: where the grid file will lie; paths in it are relative to that.

    Returns:
        text of a grid file.

    Raises:
        UserError: if the run has nothing to choose from.

    """
    source = find_run(run, Path(results))
    sweep, jobs = load_run(source), read_jobs(source)
    choices = choose(jobs, sweep.axes, metric)
    first = max(FIRST_FRESH_SEED, int(jobs["train.seed"].max()) + 1)
    model = next(job for job in sweep.jobs if job["loss.kind"] == "dynamical")
    varying = {*sweep.axes, "train.seed", "loss.kind"}
    if "standardize" not in sweep.document.get("data", {}):
        varying.add("data.standardize")  # filled in by the kind of data
    fixed = {
        key: value
        for key, value in model.settings.items()
        if key in SETTINGS and key not in varying and value not in (None, SETTINGS[key].default)
    }
    for key, path in model.files.items():
        fixed[key] = Path(os.path.relpath(path, folder)).as_posix()
    lines = [
        f"# Confirms {sweep.name}: its best cell by {metric} against static, on fresh seeds.",
        "# Chosen, by the mean over the run's own seeds:",
    ]
    for choice in choices:
        chosen = {**choice.group, **choice.cell}
        lines.append(
            f"#   {', '.join(_said(key, value) for key, value in chosen.items())}"
            f": {choice.score:.4f} over {choice.jobs} jobs, best of {choice.cells} cells"
        )
    one, *others = [{**choice.group, **choice.cell} for choice in choices]
    base = {
        **fixed,
        **one,
        "loss.kind": ["static", "dynamical"],
        "train.seeds": {"range": [first, first + seeds, 1]},
    }
    lines += [f'name = "{sweep.name}-confirm"', *_tables(base)]
    for other in others:
        lines += ["", "[[also]]", *(f"{key} = {_toml(value)}" for key, value in other.items())]
    return "\n".join(lines) + "\n"


def _tables(settings: Mapping[str, Any]) -> list[str]:
    """Lines of TOML, in the order of the settings, as one would write a grid file."""
    order = {key: i for i, key in enumerate([*SETTINGS, "train.seeds"])}
    lines: list[str] = []
    last = ""
    for key in sorted(settings, key=order.__getitem__):
        table, _, name = key.partition(".")
        if table != last:
            lines += ["", f"[{table}]"]
            last = table
        lines.append(f"{name} = {_toml(settings[key])}")
    return lines


def _toml(value: Any) -> str:
    """Write a setting's value; JSON is TOML here, but for inline tables."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def _plain(key: str, value: Any) -> Any:
    """Value as the grid file has it: a column with gaps holds integers as floats."""
    return SETTINGS[key].from_column(value)


def _said(key: str, value: Any) -> str:
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{key.rpartition('.')[2]} {shown}"
