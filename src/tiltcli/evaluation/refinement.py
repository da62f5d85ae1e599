"""What a tuning leads to: its next, narrower round, and the confirmation on fresh replicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tiltcli.errors import Fault, UserError
from tiltcli.evaluation.cells import choosing_metric, ranked
from tiltcli.evaluation.grid_writer import DRAW_STRIDE, Replicates, fresh, grid_text
from tiltcli.evaluation.tuning import METHODS, Candidate, Tuning, tune
from tiltcli.grid import SETTINGS, Job, Sweep, load_run
from tiltcli.store.read import find_run, read_jobs

KEEP, ROUND_SEEDS, CONFIRM_SEEDS = 5, 16, 20


@dataclass(frozen=True)
class _Run:
    """A run to go on from: its grid, its jobs table, its methods tuned."""

    sweep: Sweep
    jobs: pd.DataFrame
    tuning: Tuning

    @staticmethod
    def of(
        run: str | Path,
        results: str | Path,
        metric: str | None,
        methods: Sequence[str] | None,
        by: Sequence[str] | None,
    ) -> _Run:
        folder = find_run(run, Path(results))
        sweep, jobs = load_run(folder), read_jobs(folder)
        if jobs.empty:
            raise UserError(f"{sweep.name}: no job has finished yet: there is nothing to choose")
        apart = methods or sweep.methods or METHODS
        tuning = tune(jobs, metric or choosing_metric(jobs), methods=apart, by=by)
        return _Run(sweep, jobs, tuning)

    def job(self, cell: int) -> Job:
        """Any job of a cell.

        Raises:
            UserError: if the run's grid no longer leads to it.

        """
        known = {job.id: job for job in self.sweep.jobs}
        for one in self.tuning.cells.jobs_of(cell):
            if one in known:
                return known[one]
        raise UserError(
            f"{self.sweep.name}: its grid no longer leads to the jobs of a chosen cell: were files "
            "that it names changed?"
        )


def refinement_grid(
    run: str | Path,
    *,
    results: str | Path = "results",
    metric: str | None = None,
    methods: Sequence[str] | None = None,
    by: Sequence[str] | None = None,
    keep: int = KEEP,
    seeds: int = ROUND_SEEDS,
    folder: str | Path = ".",
) -> str:
    """Write the next round of a successive halving: the best cells of each method, more seeds.

    `tiltcli sweep GRID --extend` then lets the run grow by what is new in it. (Jamieson and
    Talwalkar 2016, arXiv:1502.07943, with replicates as the resource.)

    Args:
        run: a run, by name or path.
        results: folder that runs are kept under.
        metric: column whose mean chooses; None: validation accuracy, or what stands in for it.
        methods: settings that tell methods apart; None: those of the run's grid, or `loss.kind`.
        by: settings that tell rows apart; None: the network and the data.
        keep: cells of each method and row that stay.
        seeds: replicates that they then have, the run's own among them.
        folder: where the grid file will lie; paths in it are relative to that.

    Returns:
        text of a grid file.

    Raises:
        UserError: if there are fewer cells than `keep`, or as many replicates as `seeds` already.

    """
    source = _Run.of(run, results, metric, methods, by)
    tuning, rows = source.tuning, source.tuning.cells.rows
    most = max(len(one.cells) for one in tuning.candidates)
    faults = []
    if not 1 <= keep <= most:
        said = f"got {keep}; a method has at most {most} cells in a row; allowed: 1 to {most}"
        faults.append(Fault(said, source="--keep"))
    replicates = _continued(source.sweep, seeds, faults)
    if faults:
        raise UserError(*faults)
    comments = [
        f"The next round of {source.sweep.name}: of each method the best {keep} cells by "
        f"{tuning.metric}, on {seeds} replicates.",
        f"tiltcli sweep this-file --extend lets the run {source.sweep.name} grow by them.",
    ]
    chosen: list[int] = []
    for one in tuning.candidates:
        order = ranked(rows.loc[list(one.cells)], tuning.metric).index
        chosen += [int(cell) for cell in order[:keep]]
        comments.append(f"  {_title(one)}: {min(keep, len(order))} of {_budget(one)}")
    return grid_text(
        source.sweep.name,
        [source.job(cell) for cell in chosen],
        replicates,
        folder=Path(folder),
        comments=comments,
        sweep={"methods": list(tuning.methods)},
    )


def tuned_confirmation_grid(
    run: str | Path,
    *,
    results: str | Path = "results",
    metric: str | None = None,
    methods: Sequence[str] | None = None,
    by: Sequence[str] | None = None,
    seeds: int = CONFIRM_SEEDS,
    folder: str | Path = ".",
) -> str:
    """Write the grid that judges tuned methods: the chosen cell of each, on fresh replicates.

    Each replicate has a fresh seed and, where the data are drawn, a fresh draw. Beside each tilted
    cell stands its static partner, the static loss at the same other settings, so that a gain of
    the learning rate is not taken for a gain of tilting.

    Args:
        run: a run, by name or path.
        results: folder that runs are kept under.
        metric: column whose mean chooses; None: validation accuracy, or what stands in for it.
        methods: settings that tell methods apart; None: those of the run's grid, or `loss.kind`.
        by: settings that tell rows apart; None: the network and the data.
        seeds: number of fresh replicates.
        folder: where the grid file will lie; paths in it are relative to that.

    Returns:
        text of a grid file.

    Raises:
        UserError: if no method has a cell to choose.

    """
    source = _Run.of(run, results, metric, methods, by)
    tuning, rows = source.tuning, source.tuning.cells.rows
    comments = [
        f"Confirms {source.sweep.name}: each method's best cell by {tuning.metric}, on fresh "
        "replicates; beside each tilted",
        "cell the static loss at the same other settings. Chosen, by the mean over replicates:",
    ]
    cells = []
    for one in tuning.candidates:
        if one.chosen is None:
            comments.append(f"  {_title(one)}: no cell has a value, of {_budget(one)}")
            continue
        job = source.job(one.chosen)
        row = rows.loc[one.chosen]
        tuned = ", ".join(_said(job, key) for key in _tuned(tuning) if job.get(key) is not None)
        comments.append(
            f"  {_title(one)}: {tuned or 'its only cell'}: {row[f'{tuning.metric}:mean']:.4f} over "
            f"{row[f'{tuning.metric}:n']:.0f}, best of {_budget(one)}"
        )
        cells.append(job)
        if job["loss.kind"] != "static":
            cells.append(_static(job))
    return grid_text(
        f"{source.sweep.name}-confirm",
        cells,
        fresh(source.sweep.jobs, seeds, draws=True),
        folder=Path(folder),
        comments=comments,
        sweep={"methods": list(tuning.methods)},
    )


def _continued(sweep: Sweep, seeds: int, faults: list[Fault]) -> Replicates:
    """The replicates of a run, and as many more as are wanted."""
    pairs = dict.fromkeys((job["train.seed"], job.get("data.seed")) for job in sweep.jobs)
    own, draws = [seed for seed, _ in pairs], [draw for _, draw in pairs]
    several = len(set(draws)) > 1
    if several and (len(set(own)) < len(own) or None in draws):
        said = "the run's data draws are crossed with its seeds; allowed: one draw, or "
        said += '[sweep] zip = [["data.seed", "train.seeds"]]'
        faults.append(Fault(said, source="data.seed"))
        return Replicates(own)
    own = sorted(set(own)) if not several else own
    if seeds <= len(own):
        said = f"got {seeds}; the run has {len(own)} replicates: allowed: {len(own) + 1} or more"
        faults.append(Fault(said, source="--seeds"))
        return Replicates(own)
    more = seeds - len(own)
    later = [*own, *range(max(own) + 1, max(own) + 1 + more)]
    if not several:
        return Replicates(later)
    stride = max(DRAW_STRIDE.get(str(job["data.kind"]), 1) for job in sweep.jobs)
    first = max(draws) + stride
    return Replicates(later, [*draws, *range(first, first + stride * more, stride)])


def _static(job: Job) -> Job:
    """The static partner of a tilted job: all settings that a static job has too."""
    static: dict[str, Any] = {}
    for key, value in job.settings.items():
        static[key] = "static" if key == "loss.kind" else value
    kept = {k: v for k, v in static.items() if k not in SETTINGS or SETTINGS[k].applies(static)}
    return Job("", kept, job.files)


def _tuned(tuning: Tuning) -> list[str]:
    settings = [*tuning.cells.outside, *tuning.cells.inside]
    return [key for key in settings if key not in (*tuning.methods, *tuning.by)]


def _said(job: Job, key: str) -> str:
    value = job[key]
    return (
        f"{key.rpartition('.')[2]} {value:g}"
        if isinstance(value, float)
        else (f"{key.rpartition('.')[2]} {value}")
    )


def _title(one: Candidate) -> str:
    row: Mapping[str, Any] = one.row
    where = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in row.items())
    return f"{where}, {one.name}" if where else one.name


def _budget(one: Candidate) -> str:
    return f"{len(one.cells)} cells, {one.core_seconds:.0f} core-seconds"
