"""From a run to the next: its confirmation, on replicates nobody has looked at, or a refinement.

To confirm: each tilted cell stands beside its static partner, the static loss at the same other
settings. Tuned, the static methods have their own best cells as well, so that a gain of the
learning rate is not taken for one of tilting, and every replicate has a fresh draw of the data
where it is drawn; otherwise only where the run has several draws itself.

To refine: a successive halving (Jamieson and Talwalkar 2016, arXiv:1502.07943) with replicates as
its resource: the best cells of each method, on more seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tiltcli.errors import Fault, UserError, listing
from tiltcli.evaluation.cells import choosing_metric, ranked, varying
from tiltcli.evaluation.facets import named, tail
from tiltcli.evaluation.grid_writer import DRAW_STRIDE, Replicates, fresh, grid_text
from tiltcli.evaluation.tuning import Candidate, Tuning, at_edges, of_last_round, tune
from tiltcli.grid import SETTINGS, Job, Sweep, load_run
from tiltcli.grid.settings import METHODS
from tiltcli.store.read import find_run, read_jobs

CONFIRM_SEEDS = 20
KEEP, ROUND_SEEDS = 5, 16


@dataclass(frozen=True)
class Source:
    """A run to go on from."""

    sweep: Sweep  # its grid, of a run that grew all of them
    jobs: pd.DataFrame  # its jobs table
    tuning: Tuning  # its methods, tuned

    @staticmethod
    def of(
        run: str | Path,
        results: str | Path,
        metric: str | None,
        methods: Sequence[str] | None,
        by: Sequence[str] | None,
    ) -> Source:
        """Return a run, read, with its methods tuned."""
        folder = find_run(run, Path(results))
        sweep, jobs = load_run(folder), read_jobs(folder)
        if jobs.empty:
            raise UserError(f"{sweep.name}: no job has finished yet: there is nothing to choose")
        apart = methods or sweep.methods or METHODS
        tuning = tune(jobs, metric or choosing_metric(jobs), methods=apart, by=by)
        return Source(sweep, jobs, tuning)

    def job(self, cell: int) -> Job:
        """Return any job of a cell."""
        known = {job.id: job for job in self.sweep.jobs}
        for one in self.tuning.cells.jobs_of(cell):
            if one in known:
                return known[one]
        raise UserError(
            f"{self.sweep.name}: its grid no longer leads to the jobs of a chosen cell: were files "
            "that it names changed?"
        )


def confirmation_grid(
    run: str | Path,
    *,
    results: str | Path = "results",
    metric: str | None = None,
    tuned: bool = False,
    methods: Sequence[str] | None = None,
    by: Sequence[str] | None = None,
    seeds: int = CONFIRM_SEEDS,
    folder: str | Path = ".",
) -> str:
    """Text of the grid that confirms a run: chosen cells beside static, on fresh replicates."""
    if not tuned:
        jobs = read_jobs(find_run(run, Path(results)))
        methods, by = METHODS, varying(jobs)[0]
    source = Source.of(run, results, metric, methods, by)
    tuning = source.tuning
    if not tuned and not source.jobs["loss.kind"].eq("dynamical").any():
        raise UserError(f"{source.sweep.name}: has no dynamical jobs to choose from")
    comments = [
        f"Confirms {source.sweep.name}: "
        f"{'each method' if tuned else 'the best tilted cell'} by {tuning.metric}, on fresh "
        "replicates, beside the static loss",
        "at the same other settings. Chosen, by the mean over replicates:",
    ]
    cells = []
    for one in tuning.candidates:
        if one.chosen is None:
            comments.append(f"  {title(one)}: no cell has a value, of {budget(one)}")
            continue
        job = source.job(one.chosen)
        if not tuned and job["loss.kind"] == "static":
            continue
        scored = _chosen(source, job, one.chosen)
        comments.append(f"  {title(one)}: {scored}, best of {budget(one)}")
        if tuned and (edges := at_edges(tuning, one)):
            said = listing([tail(key) for key in edges])
            comments.append(
                f"    at the edge of what was tried: {said}; a wider grid may be fairer"
            )
        cells.append(job)
        if job["loss.kind"] != "static":
            cells.append(_static(job))
    draws = tuned or source.jobs["data.seed"].nunique() > 1
    return grid_text(
        f"{source.sweep.name}-confirm",
        cells,
        fresh(source.sweep.jobs, seeds, draws=draws),
        folder=Path(folder),
        comments=comments,
        sweep={"methods": list(tuning.methods)} if tuned else None,
    )


def chosen_cells(jobs: pd.DataFrame, settings: Sequence[str]) -> set[tuple[Any, ...]]:
    """Return values of some settings of the tilted cells that an untuned confirmation chooses."""
    tuning = tune(jobs, choosing_metric(jobs), methods=METHODS, by=varying(jobs)[0])
    first = jobs.groupby(tuning.cells.of_job.to_numpy()).head(1)
    first = first.set_index(tuning.cells.of_job[first["job"]].to_numpy())
    chosen = [one.chosen for one in tuning.candidates if one.method != {"loss.kind": "static"}]
    return cells_of(first.loc[[cell for cell in chosen if cell is not None]], settings)


def cells_of(jobs: pd.DataFrame, settings: Sequence[str]) -> set[tuple[Any, ...]]:
    """Combinations of values of some settings that jobs have; null is None."""
    rows = jobs[list(settings)].drop_duplicates().astype(object)
    return set(rows.where(rows.notna(), None).itertuples(index=False, name=None))


def _chosen(source: Source, job: Job, cell: int) -> str:
    """What was tuned of a cell, and what it scored."""
    tuning = source.tuning
    row: Any = tuning.cells.rows.loc[cell]
    tuned = {key: job[key] for key in tuning.tuned if job.get(key) is not None}
    said = named(tuned, symbols=False) or "its only cell"
    lost = f", {row['lost']} lost" if row["lost"] else ""
    mean, n = row[f"{tuning.metric}:mean"], row[f"{tuning.metric}:n"]
    return f"{said}: {mean:.4f} over {n:.0f} replicates{lost}"


def _static(job: Job) -> Job:
    """The static partner of a tilted job: all settings that a static job has too."""
    static = {**job.settings, "loss.kind": "static"}
    kept = {k: v for k, v in static.items() if k not in SETTINGS or SETTINGS[k].applies(static)}
    return Job("", kept, job.files)


def title(one: Candidate) -> str:
    """Row and name of a method."""
    where = named(one.row, symbols=False)
    return f"{where}, {one.name}" if where else one.name


def budget(one: Candidate) -> str:
    """What tuning a method took."""
    return f"{len(one.cells)} cells, {one.core_seconds:.0f} core-seconds"


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
    """Text of the grid with the best cells of each method, on more seeds than the run has."""
    source = Source.of(run, results, metric, methods, by)
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
        order = ranked(of_last_round(rows.loc[list(one.cells)]), tuning.metric).index
        chosen += [int(cell) for cell in order[:keep]]
        comments.append(f"  {title(one)}: {min(keep, len(order))} of {budget(one)}")
    return grid_text(
        source.sweep.name,
        [source.job(cell) for cell in chosen],
        replicates,
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
