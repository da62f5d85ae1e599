"""From a run to the next: its confirmation, on replicates nobody has looked at, or a refinement.

To confirm: each tilted cell stands beside its static partner, the static loss at the same other
settings. Tuned, the static methods have their own best cells as well, so that a gain of the
learning rate is not taken for one of tilting, and every replicate has a fresh draw of the data
where it is drawn; otherwise only where the run has several draws itself.

To refine: a successive halving (Jamieson and Talwalkar 2016, arXiv:1502.07943) with replicates as
its resource: the best cells of each method, on more seeds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tiltcli.errors import Fault, UserError, listing
from tiltcli.evaluation.cells import REPLICATES, choosing_metric, ranked, varying
from tiltcli.evaluation.facets import named, tail
from tiltcli.evaluation.tuning import Candidate, Tuning, at_edges, of_last_round, tune
from tiltcli.grid import SETTINGS, Job, Sweep, load_run
from tiltcli.grid.settings import METHODS, TABLES, finish, position
from tiltcli.store.read import find_run, read_jobs

CONFIRM_SEEDS = 20
KEEP, ROUND_SEEDS = 5, 16
MOST_SEEDS = 100_000  # a list of more is no grid file that is read


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
    if not 1 <= seeds <= MOST_SEEDS:
        raise UserError(Fault(f"got {seeds}; allowed: 1 to {MOST_SEEDS:,}", source="--seeds"))
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
    if not len(own) < seeds <= MOST_SEEDS:
        allowed = f"{len(own) + 1} to {MOST_SEEDS:,}"
        said = f"got {seeds}; the run has {len(own)} replicates: allowed: {allowed}"
        faults.append(Fault(said, source="--seeds"))
        return Replicates(own)
    more = seeds - len(own)
    later = [*own, *range(max(own) + 1, max(own) + 1 + more)]
    if not several:
        return Replicates(later)
    stride = max(DRAW_STRIDE.get(str(job["data.kind"]), 1) for job in sweep.jobs)
    first = max(draws) + stride
    return Replicates(later, [*draws, *range(first, first + stride * more, stride)])


FIRST_FRESH_SEED = 100
"""Seeds of a confirmation begin here, or after those of the run it confirms."""

DRAW_STRIDE = {"spiral": 3}
"""Distance between data seeds whose draws have no part in common: a spiral of seed s has its
validation points from seed s + 1 and its test points from s + 2."""


@dataclass(frozen=True)
class Replicates:
    """Seeds that each cell of a grid is trained on."""

    seeds: Sequence[int]  # of initialisation and batch order
    draws: Sequence[int] | None = None  # of the data, one for each seed; None: as the cells have it


def fresh(used: Sequence[Job], count: int, *, draws: bool) -> Replicates:
    """Return replicates that some jobs have not used."""
    seeds = max(FIRST_FRESH_SEED, 1 + max(int(job["train.seed"]) for job in used))
    own = [int(job["data.seed"]) for job in used if job.get("data.seed") is not None]
    chosen = range(seeds, seeds + count)
    if not draws or len(own) < len(used):
        return Replicates(chosen)
    stride = max(DRAW_STRIDE.get(str(job["data.kind"]), 1) for job in used)
    first = max(FIRST_FRESH_SEED, stride + max(own))
    return Replicates(chosen, range(first, first + stride * count, stride))


def grid_text(
    name: str,
    cells: Sequence[Job],
    replicates: Replicates,
    *,
    folder: Path,
    comments: Sequence[str] = (),
    sweep: Mapping[str, Any] | None = None,
) -> str:
    """Return the grid whose cells are given."""
    if not cells:
        raise UserError("there is no cell to write a grid of")
    given = list({repr(one): one for job in cells if (one := _given(job, folder))}.values())
    base, *others = _base_first(given)
    turning: dict[str, Any] = {"train.seeds": _axis(replicates.seeds)}
    table = dict(sweep or {})
    if replicates.draws is not None:
        turning["data.seed"] = _axis(replicates.draws)
        table["zip"] = [["data.seed", "train.seeds"]]
    lines = [*(f"# {line}".rstrip() for line in comments), f'name = "{name}"']
    lines += _tables({**base, **turning})
    if table:
        lines += ["", "[sweep]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    for other in others:
        # What a block does not say is as in the tables above, or the default.
        own = {k: v for k, v in other.items() if base.get(k, SETTINGS[k].default) != v}
        lines += ["", "[[also]]", *(f"{key} = {_toml(value)}" for key, value in own.items())]
    return "\n".join(lines) + "\n"


def _given(job: Job, folder: Path) -> dict[str, Any]:
    """What a grid file says of a cell: every setting that applies and is set, but replicates."""
    usual = {key: value for key, value in job.settings.items() if key != "data.standardize"}
    finish(usual)
    found = {}
    for key, value in job.settings.items():
        if key not in SETTINGS or key in REPLICATES or value is None:
            continue
        if key == "data.standardize" and value == usual.get(key):
            continue  # filled in by the kind of data
        found[key] = [value] if SETTINGS[key].argument and isinstance(value, list) else value
    for key, path in job.files.items():
        found[key] = Path(os.path.relpath(path, folder)).as_posix()
    # The run's own draw is a setting where the new grid does not turn it.
    if job.get("data.seed"):
        found["data.seed"] = job["data.seed"]
    return found


def _base_first(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Bring the cell forward whose settings every other can override."""

    def stuck(base: dict[str, Any]) -> set[str]:
        return {
            key
            for other in cells
            for key in base
            if key not in other and SETTINGS[key].default is None and SETTINGS[key].applies(other)
        }

    found = [stuck(cell) for cell in cells]
    place = min(range(len(cells)), key=lambda i: len(found[i]))
    if found[place]:
        raise UserError(
            f"the cells differ in {listing(sorted(found[place]))}, which some of them do not have: "
            "one grid file cannot say that; narrow the run with --where"
        )
    return [cells[place], *cells[:place], *cells[place + 1 :]]


def _axis(values: Sequence[int]) -> Any:
    if isinstance(values, range):
        return {"range": [values.start, values.stop, values.step]}
    return list(values)


def _tables(settings: Mapping[str, Any]) -> list[str]:
    """Lines of TOML, in the order of the settings, as one would write a grid file."""
    lines = []
    for table in TABLES:
        own = [key for key in settings if key.startswith(f"{table}.")]
        if own:
            lines += ["", f"[{table}]"]
        for key in sorted(own, key=position):
            value = settings[key]
            known = SETTINGS.get(key)
            if known is None or value != known.default:
                lines.append(f"{key.partition('.')[2]} = {_toml(value)}")
    return lines


def _toml(value: Any) -> str:
    """Write a value; JSON is TOML here, but for inline tables."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)
