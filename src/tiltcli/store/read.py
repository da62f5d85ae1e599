"""Reading a run: the three tables as pandas frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tiltcli.records import UserError, listing, nearest
from tiltcli.store import parts
from tiltcli.store.schema import JOBS, METRICS


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
    """Folder of a run given by its name under `results`, or by a path.

    Raises:
        UserError: if there is none, naming the nearest that is there.

    """
    text = str(run)
    for folder in (results / text, Path(text)):
        if text and (folder / "sweep.toml").is_file():
            return folder
    names = list_runs(results)
    close = nearest(text, names)
    hint = f"did you mean {close}?" if close else f"runs there: {listing(names) or 'none'}"
    raise UserError(f"no run {text!r} under {results}/ and no such path; {hint}")


def read_jobs(folder: Path) -> pd.DataFrame:
    """Jobs table of a run folder.

    Raises:
        UserError: if a file of it cannot be read.

    """
    frame = _frame(folder, "jobs", JOBS)
    if frame["job"].duplicated().any():
        frame = frame.drop_duplicates("job", keep="last")
    settings = [name for name in frame.columns if "." in name]
    return frame.sort_values([*settings, "job"], na_position="first", ignore_index=True)


def read(run: str | Path, results: str | Path = "results") -> Tables:
    """Read a run.

    Args:
        run: a name under `results`, or a path.
        results: the results folder.

    Returns:
        its three tables.

    Raises:
        UserError: if there is no such run, or a file of it cannot be read.

    """
    folder = find_run(run, Path(results))
    jobs = read_jobs(folder)
    metrics = _frame(folder, "metrics", METRICS)
    metrics = metrics.sort_values(["job", "epoch"], ignore_index=True, kind="stable")
    probes = pd.DataFrame({"job": pd.Series(dtype=str), "epoch": pd.Series(dtype="int64")})
    return Tables(folder.resolve().name, jobs, metrics, probes)


def _frame(folder: Path, table: str, schema: pa.Schema) -> pd.DataFrame:
    tables: list[pa.Table] = []
    for part in parts.live(folder):
        path = folder / table / part.filename
        try:
            tables.append(pq.read_table(path, schema=schema))
        except (OSError, pa.ArrowException, KeyError) as error:
            raise UserError(
                f"{path}: cannot be read ({str(error)[:120]}); "
                "run the sweep again: it sets the file aside and does its jobs anew"
            ) from None
    whole = pa.concat_tables(tables) if tables else schema.empty_table()
    frame: pd.DataFrame = whole.to_pandas()
    return frame


__all__: Sequence[str] = ["Tables", "find_run", "list_runs", "read", "read_jobs"]
