"""Reading a run: the three tables as pandas frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TypeVar

import pandas as pd
import pyarrow as pa

from tiltcli.errors import Outcome, UserError, harmless, with_suggestion
from tiltcli.grid.run_grids import listed_values
from tiltcli.store import parts
from tiltcli.store.parquet import JOBS, METRICS, PROBES, RECALL, read_part, with_arguments
from tiltcli.store.parts import deduplicate, rows_of
from tiltcli.store.probe_rows import in_order, merged_probes, sorted_frame

Found = TypeVar("Found")
TRIES = 20


@dataclass(frozen=True, repr=False)
class Tables:
    """A run's tables, columns as the files say.

    Attributes:
        name: of the run.
        jobs: one row per finished job, the latest where a failed one was run again, in the order
            of the grid.
        metrics: one row per job and logged epoch, by job and epoch.
        probes: one row per job and probed epoch; empty where nothing was probed.
        folder: of the run, where `recall` is read from; None: from nowhere.

    """

    name: str
    jobs: pd.DataFrame
    metrics: pd.DataFrame
    probes: pd.DataFrame
    folder: Path | None = None

    @cached_property
    def recall(self) -> pd.DataFrame:
        """One row per job, logged epoch, part and class, by these; read when first asked for.

        The columns job, part and class are categorical. Empty unless `train.recall` was set.
        """
        if self.folder is None:
            return pd.DataFrame(columns=RECALL.names)
        return _recalls(self.folder, self.jobs["job"])

    def __repr__(self) -> str:
        tables = {"jobs": self.jobs, "metrics": self.metrics, "probes": self.probes}
        said = ", ".join(f"{name} {len(one):,} × {one.shape[1]}" for name, one in tables.items())
        return f"<{self.name}: {said}>"

    def _repr_html_(self) -> str:
        varying = [name for name in self.jobs if self.jobs[name].nunique(dropna=False) > 1]
        shown = self.jobs[varying].to_html(max_rows=8, max_cols=12, notebook=True)
        return f"{escape(repr(self).strip('<>'))}; of jobs, the columns that vary:{shown}"


def list_runs(results: Path) -> list[str]:
    """Names of the runs under a results folder."""
    if not results.is_dir():
        return []
    return sorted(path.parent.name for path in results.glob("*/sweep.toml"))


def find_run(run: str | Path, results: Path) -> Path:
    """Return the folder of a run given by its name under `results`, or by a path."""
    text = str(run)
    for folder in (results / text, Path(text)):
        if text and (folder / "sweep.toml").is_file():
            return folder
    names = list_runs(results)
    problem = f"no run {text!r} under {results}/ and no such path"
    raise UserError(with_suggestion(problem, text, names, says="runs there"))


def read_jobs(folder: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the jobs table of a run folder, or some columns of it, in the order of its grid."""

    def frame(live: list[str]) -> pd.DataFrame:
        return _sorted_jobs(folder, _frame(_jobs(folder, live, columns), JOBS))

    return _while_it_changes(folder, frame)


def _sorted_jobs(folder: Path, frame: pd.DataFrame) -> pd.DataFrame:
    # By the settings, each as the grid lists its values, those it does not list rising at the end;
    # dynamical jobs before static ones, however it lists them.
    # A setting that all jobs share orders nothing, and sorting by many columns is slow.
    settings = [c for c in frame.columns if "." in c and frame[c].nunique(dropna=False) > 1]
    keys = frame[[*settings, "job"]]
    for name, values in listed_values(folder).items():
        if name in settings and name != "loss.kind":
            places = {value: place for place, value in enumerate(values)}
            rest = sorted(set(keys[name].dropna()) - set(places))
            places |= {value: len(values) + place for place, value in enumerate(rest)}
            own = keys[name].map(places)
            keys = keys.assign(**{name: own.fillna(places[None]) if None in places else own})
    order = keys.sort_values([*settings, "job"], na_position="first").index
    ordered: pd.DataFrame = frame.loc[order].reset_index(drop=True)
    return ordered


def read(
    run: str | Path, results: str | Path = "results", metrics: Sequence[str] | None = None
) -> Tables:
    """Read a run.

    Args:
        run: a name under `results`, or a path.
        results: the results folder.
        metrics: columns of the metrics table to read, job and epoch come with them; the table is
            then in the order it was written in, and its job column is categorical: less time and
            memory where there are millions of rows. Default: all columns, sorted.

    Returns:
        its three tables.

    Propagates `UserError` if there is no such run, or a file of it cannot be read.

    """
    folder = find_run(run, Path(results))

    wanted = METRICS if metrics is None else _some(METRICS, {"job", "epoch", *metrics})

    def tables(live: list[str]) -> Tables:
        jobs = _jobs(folder, live, None)
        curves = [
            rows_of(read_part(folder / "metrics" / part, wanted), counting["job"])
            for part, counting in zip(live, jobs, strict=True)
        ]
        if metrics is None:
            rows = _frame(curves, METRICS)
            rows = rows.sort_values(["job", "epoch"], ignore_index=True, kind="stable")
        else:  # the job column, the first, as numbers of jobs and a list of them
            curves = [one.set_column(0, "job", one["job"].dictionary_encode()) for one in curves]
            rows = _frame(curves, wanted)
        ended = _sorted_jobs(folder, _frame(jobs, JOBS))
        probes = _probes(folder, live, ended["job"])
        return Tables(harmless(folder.resolve().name), ended, rows, probes, folder)

    return _while_it_changes(folder, tables)


def read_probes(folder: Path) -> pd.DataFrame:
    """Return the probes table of a run folder, one row per job and probed epoch."""

    def frame(live: list[str]) -> pd.DataFrame:
        return _probes(folder, live, _frame(_jobs(folder, live, []), JOBS)["job"])

    return _while_it_changes(folder, frame)


def _probes(folder: Path, live: Sequence[str], ended: pd.Series) -> pd.DataFrame:
    """Probes of jobs that have ended; a writer may have been killed before a row of its job."""
    tables = [t for part in in_order(live) for t in _if_any(folder, "probes", part, PROBES)]
    frame = sorted_frame(merged_probes(tables))
    return frame[frame["job"].isin(ended)].reset_index(drop=True)


def _recalls(folder: Path, jobs: pd.Series) -> pd.DataFrame:
    def frame(live: list[str]) -> pd.DataFrame:
        found = []
        if (folder / "recall").is_dir():  # else there is no need to know which jobs count
            found = [
                rows_of(rows_of(table, counting["job"]), pa.array(jobs))
                for part, counting in zip(live, _jobs(folder, live, []), strict=True)
                for table in _if_any(folder, "recall", part, RECALL)
            ]
        whole = pa.concat_tables([RECALL.empty_table(), *found])
        ordered = whole.sort_by([("job", "ascending"), ("epoch", "ascending")])
        categories = ["job", "part", "class"]
        made: pd.DataFrame = ordered.to_pandas(categories=categories)
        return made

    return _while_it_changes(folder, frame)


def _if_any(folder: Path, table: str, part: str, schema: pa.Schema) -> list[pa.Table]:
    if (folder / table / part).exists():
        return [read_part(folder / table / part, schema)]
    if not (folder / "jobs" / part).exists():
        raise FileNotFoundError(part)  # set aside, not a part without such rows
    return []


def last_probed_epochs(jobs: pd.DataFrame) -> dict[str, int]:
    """Job → last epoch that can be probed: that of a diverged job lies before its divergence."""
    ended = jobs[jobs["outcome"].isin([Outcome.COMPLETED, Outcome.DIVERGED])]
    last = ended["epochs"] - (ended["outcome"] == Outcome.DIVERGED)
    return {job: int(epoch) for job, epoch in zip(ended["job"], last, strict=True)}


def _jobs(folder: Path, live: Sequence[str], columns: Sequence[str] | None) -> list[pa.Table]:
    """Jobs tables of the live parts, of their rows those that count."""
    wanted = JOBS
    if columns is not None:
        tables_of_arguments = (name.rpartition(".")[0] for name in columns)
        wanted = _some(JOBS, {"job", "outcome", *columns, *tables_of_arguments})
    tables = [read_part(folder / "jobs" / part, wanted) for part in live]
    if (masks := deduplicate(tables)) is None:
        return tables
    return [table.filter(pa.array(mask)) for table, mask in zip(tables, masks, strict=True)]


def _some(schema: pa.Schema, names: Collection[str]) -> pa.Schema:
    return pa.schema([field for field in schema if field.name in names], schema.metadata)


def _frame(tables: Sequence[pa.Table], schema: pa.Schema) -> pd.DataFrame:
    whole = pa.concat_tables(tables) if tables else schema.empty_table()
    frame: pd.DataFrame = whole.to_pandas()
    return with_arguments(frame)


def _while_it_changes(folder: Path, act: Callable[[list[str]], Found]) -> Found:
    """Read the live parts; anew, if some were set aside in the meantime."""
    for _ in range(TRIES):
        try:
            return act(parts.live(folder))
        except FileNotFoundError as error:
            missing = error
            time.sleep(0.05)
    raise UserError(
        f"{folder}: a file is missing ({str(missing)[:120]}); "
        "run the sweep again: it does the jobs in it anew"
    )
