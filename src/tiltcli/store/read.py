"""Reading a run: the three tables as pandas frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tiltcli.errors import Outcome, UserError, with_suggestion
from tiltcli.store import parts
from tiltcli.store.columns import JOBS, METRICS, PROBES
from tiltcli.store.deduplicate import Mask, deduplicate, rows_of_kept
from tiltcli.store.jobs_files import read_jobs_file
from tiltcli.store.parts import Part
from tiltcli.store.probe_rows import in_order, merged_probes, sorted_frame

Found = TypeVar("Found")
TRIES = 20


@dataclass(frozen=True)
class Tables:
    """A run's tables, columns as the files say.

    Attributes:
        name: of the run.
        jobs: one row per finished job, the latest where a failed one was run again.
        metrics: one row per job and logged epoch, by job and epoch.
        probes: one row per job and probed epoch; empty where nothing was probed.

    """

    name: str
    jobs: pd.DataFrame
    metrics: pd.DataFrame
    probes: pd.DataFrame


def list_runs(results: Path) -> list[str]:
    """Names of the runs under a results folder."""
    if not results.is_dir():
        return []
    return sorted(path.parent.name for path in results.glob("*/sweep.toml"))


def find_run(run: str | Path, results: Path) -> Path:
    """Return the folder of a run given by its name under `results`, or by a path.

    Raises:
        UserError: if there is none, naming the nearest that is there.

    """
    text = str(run)
    for folder in (results / text, Path(text)):
        if text and (folder / "sweep.toml").is_file():
            return folder
    names = list_runs(results)
    problem = f"no run {text!r} under {results}/ and no such path"
    raise UserError(with_suggestion(problem, text, names, says="runs there"))


def outcomes(folder: Path) -> dict[str, str]:
    """Return the outcome of every job of a run folder that has ended, by id.

    Propagates `UserError` if a file of it cannot be read.
    """

    def ended(live: list[Part]) -> dict[str, str]:
        tables, masks = _jobs(folder, live, ["job", "outcome"])
        found: dict[str, str] = {}
        for i, table in enumerate(tables):
            counting = table if masks is None else table.filter(pa.array(masks[i]))
            pairs = zip(counting["job"].to_pylist(), counting["outcome"].to_pylist(), strict=True)
            found.update(pairs)
        return found

    return _while_it_changes(folder, ended)


def read_jobs(folder: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the jobs table of a run folder, sorted by the settings.

    Propagates `UserError` if a file of it cannot be read.

    Args:
        folder: of the run.
        columns: columns to read, settings to sort by among them; default: all.

    """

    def frame(live: list[Part]) -> pd.DataFrame:
        tables, masks = _jobs(folder, live, columns)
        return _sorted_jobs(_frame(tables, JOBS, masks))

    return _while_it_changes(folder, frame)


def _sorted_jobs(frame: pd.DataFrame) -> pd.DataFrame:
    # A setting that all jobs share orders nothing, and sorting by many columns is slow.
    settings = [c for c in frame.columns if "." in c and frame[c].nunique(dropna=False) > 1]
    return frame.sort_values([*settings, "job"], na_position="first", ignore_index=True)


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

    Raises:
        UserError: if there is no such run, or a file of it cannot be read.

    """  # noqa: DOC502
    folder = find_run(run, Path(results))

    wanted = METRICS
    if metrics is not None:
        keep = {"job", "epoch", *metrics}
        wanted = pa.schema([field for field in METRICS if field.name in keep], METRICS.metadata)

    def tables(live: list[Part]) -> Tables:
        jobs, masks = _jobs(folder, live, None)
        curves = [_table(folder, "metrics", part, wanted) for part in live]
        if masks is not None:
            curves = [rows_of_kept(*three) for three in zip(curves, jobs, masks, strict=True)]
        if metrics is not None:
            curves = [_with_categories(table) for table in curves]
            rows = _frame(curves, curves[0].schema if curves else wanted, None)
        else:
            rows = _frame(curves, METRICS, None)
            rows = rows.sort_values(["job", "epoch"], ignore_index=True, kind="stable")
        ended = _sorted_jobs(_frame(jobs, JOBS, masks))
        return Tables(folder.resolve().name, ended, rows, _probes(folder, live))

    return _while_it_changes(folder, tables)


def _with_categories(table: pa.Table) -> pa.Table:
    """Replace the job column, the first, by numbers of jobs and a list of them."""
    return table.set_column(0, "job", table["job"].dictionary_encode())


def read_probes(folder: Path) -> pd.DataFrame:
    """Return the probes table of a run folder, one row per job and probed epoch.

    Propagates `UserError` if a file of it cannot be read.
    """
    return _while_it_changes(folder, lambda live: _probes(folder, live))


def _probes(folder: Path, live: Sequence[Part]) -> pd.DataFrame:
    tables = []
    for part in in_order(live):
        if (folder / "probes" / part.filename).exists():
            tables.append(_table(folder, "probes", part, PROBES))
        elif not (folder / "jobs" / part.filename).exists():
            raise FileNotFoundError(part.filename)  # merged away, not a part without probes
    return sorted_frame(merged_probes(tables))


def last_probed_epochs(jobs: pd.DataFrame) -> dict[str, int]:
    """Job → last epoch that can be probed: that of a diverged job lies before its divergence."""
    ended = jobs[jobs["outcome"].isin([Outcome.COMPLETED, Outcome.DIVERGED])]
    last = ended["epochs"] - (ended["outcome"] == Outcome.DIVERGED)
    return {job: int(epoch) for job, epoch in zip(ended["job"], last, strict=True)}


def _jobs(
    folder: Path, live: Sequence[Part], columns: Sequence[str] | None
) -> tuple[list[pa.Table], list[Mask] | None]:
    """Jobs tables of the live parts, and which of their rows count (None: all)."""
    wanted = JOBS
    if columns is not None:
        keep = {"job", "outcome", *columns}
        wanted = pa.schema([field for field in JOBS if field.name in keep], JOBS.metadata)
    tables = [_table(folder, "jobs", part, wanted, read_jobs_file) for part in live]
    return tables, deduplicate(tables)


def _frame(
    tables: Sequence[pa.Table], schema: pa.Schema, masks: Sequence[Mask] | None
) -> pd.DataFrame:
    if masks is not None:
        tables = [t.filter(pa.array(m)) for t, m in zip(tables, masks, strict=True)]
    whole = pa.concat_tables(tables) if tables else schema.empty_table()
    frame: pd.DataFrame = whole.to_pandas()
    return frame


def _plain(path: Path, schema: pa.Schema) -> pa.Table:
    return pq.read_table(path, schema=schema, columns=schema.names)


def _table(
    folder: Path,
    table: str,
    part: Part,
    schema: pa.Schema,
    reader: Callable[[Path, pa.Schema], pa.Table] = _plain,
) -> pa.Table:
    path = folder / table / part.filename
    try:
        return reader(path, schema)
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException, KeyError) as error:
        raise UserError(
            f"{path}: cannot be read ({str(error)[:120]}); "
            "run the sweep again: it sets the file aside and does its jobs anew"
        ) from None


def _while_it_changes(folder: Path, act: Callable[[list[Part]], Found]) -> Found:
    """Read the live parts; anew, if a writer merged some of them in the meantime."""
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


__all__: Sequence[str] = ["Tables", "find_run", "list_runs", "outcomes", "read", "read_jobs"]
