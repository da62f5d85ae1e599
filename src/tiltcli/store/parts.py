"""The files of a run: numbered parts, each a group of finished jobs.

A part is a file of one name in each table's folder: `metrics/000007.parquet` and the like, and at
last `jobs/000007.parquet`, which makes its jobs count. Each writer of a run has parts of its own:
the client that writes alone `000007.parquet`, a shard `s3of16.000007.parquet`.

A row never moves from one part to another and no part goes away, so that whoever lists
`jobs/*.parquet`, and then reads what the list names, gets every committed job, once: at whatever
moment, and whatever moment a writer was killed at. Files are few all the same, because the last
part of a writer grows (`tiltcli.store.parquet`) until it is large. Writers commit in turn and look
at each other's parts first, so that no job is written twice. Only where a file system has no locks
can two parts have one job.

A commit is on the disk itself before it counts: each file is synchronised before it gets its name,
and each folder after. So a finished job outlives a power cut, as a transaction of SQLite does, and
so do the jobs that stood in the part before. It costs some hundredths of a second a commit.

Earlier versions called a part by a range, `N-M`; such parts are read, and never grow.

Where several parts have one job, a row that ended well beats one that failed (it was run again);
among equals the last in the order of the parts counts. The same job gives the same numbers whoever
trains it, so the choice among equals changes nothing but the wall time shown.

What killed writers left of parts is removed; what cannot be made out is set aside.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tiltcli.errors import Outcome
from tiltcli.store.parquet import Damaged, patiently, read_part

_NAME = re.compile(r"(?:([A-Za-z][A-Za-z0-9_-]*)\.)?(\d{6,})(?:-\d{6,})?\.parquet")

Signature = tuple[int, int, int]
"""What tells whether a file is still the one that was looked at."""

KEYS = ["job", "outcome"]

TABLES = ("jobs", "metrics", "recall", "probes")
"""Folders of a run's parts; jobs first: they make the others count."""

READ_WHOLE_BYTES = 1 << 30
"""A run up to this size is read whole when it is opened; of a larger one only the files' ends."""


def part_name(writer: str, number: int) -> str:
    """Name of each file of a part."""
    return f"{writer}.{number:06d}.parquet" if writer else f"{number:06d}.parquet"


def parse(name: str) -> tuple[str, int] | None:
    """Writer and number of a part by the name of its files; None for what is no part."""
    found = _NAME.fullmatch(name)
    return (found[1] or "", int(found[2])) if found else None


def writer_name(base: str) -> str:
    """Return a name that no other writer has, on any machine; odd characters of `base` become _."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", base)[:60]
    # Not a process id alone: they recur, and another machine has the same.
    return f"{plain if plain[:1].isalpha() else 'w' + plain}-{os.urandom(4).hex()}"


def live(run: Path) -> list[str]:
    """Names of the parts that count, in order."""
    try:
        return sorted(name for name in os.listdir(run / "jobs") if parse(name))
    except FileNotFoundError:
        return []


def signature(path: Path) -> Signature | None:
    """Signature of a file; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


class JobIndex:
    """Jobs of a run's parts; kept up to date by what has changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outcomes: dict[str, str] = {}
        self.part_of: dict[str, str] = {}
        self.rows: dict[str, int] = {}
        self._seen: dict[str, Signature | None] = {}

    def look(self, skip: Callable[[str], bool] = lambda writer: False) -> None:
        """Look at the parts that have changed, but for those of writers to skip."""
        names = live(self.folder)
        if not self._seen.keys() <= set(names):  # one was set aside
            for known in (self.outcomes, self.part_of, self.rows, self._seen):
                known.clear()
        for name in names:
            parsed = parse(name)
            if name in self._seen and parsed is not None and skip(parsed[0]):
                continue
            path = self.folder / "jobs" / name
            found = signature(path)
            if found is not None and found != self._seen.get(name):
                with contextlib.suppress(FileNotFoundError):  # set aside by another writer
                    self.take(name, read_part(path, KEYS))

    def take(self, name: str, jobs: pa.Table) -> None:
        """Take the jobs that a part has now."""
        for job, outcome in zip(jobs["job"].to_pylist(), jobs["outcome"].to_pylist(), strict=True):
            before = self.outcomes.get(job)
            if before in (None, Outcome.FAILED) or outcome != Outcome.FAILED:
                self.outcomes[job], self.part_of[job] = outcome, name
        self.rows[name] = len(jobs)
        self.looked_at(name)

    def looked_at(self, name: str) -> None:
        """Take it that the part, as it is now, has the jobs that are known."""
        self._seen[name] = signature(self.folder / "jobs" / name)


def deduplicate(jobs: Sequence[pa.Table]) -> list[npt.NDArray[np.bool_]] | None:
    """Return masks of the rows that count, of jobs tables in their parts' order; None if all do."""
    if not jobs:
        return None
    keys = pa.concat_tables([table.select(["job", "outcome"]) for table in jobs]).to_pandas()
    if not keys["job"].duplicated().any():
        return None
    failed = keys["outcome"] == Outcome.FAILED
    ordered = pd.concat([keys[failed], keys[~failed]])
    kept = ordered.index[~ordered["job"].duplicated(keep="last")]
    mask = np.zeros(len(keys), dtype=bool)
    mask[kept] = True
    return np.split(mask, np.cumsum([len(table) for table in jobs])[:-1])


def rows_of(table: pa.Table, jobs: pa.ChunkedArray) -> pa.Table:
    """Rows of a table that belong to one of these jobs."""
    names = table["job"].unique()
    if pc.all(pc.is_in(names, value_set=jobs), min_count=0).as_py():
        return table
    return table.filter(pc.is_in(table["job"], value_set=jobs))


def remove_litter(run: Path, owner: str | None = None) -> list[str]:
    """Remove unfinished files, and parts that do not count, of one writer (None: of all)."""
    kept = set(live(run))
    removed = []
    for folder in (run, *(run / table for table in TABLES)):
        if not folder.is_dir():
            continue
        for path in sorted(folder.iterdir()):
            stray = path.name.startswith(".") and path.name.endswith(".tmp")
            dead = folder != run and parse(path.name) is not None and path.name not in kept
            ours = owner is None or path.name.removeprefix(".").startswith(f"{owner}.")
            if ours and (stray or dead) and path.is_file():
                path.unlink(missing_ok=True)
                removed.append(f"{folder.name}/{path.name}")
    return removed


def set_aside_damaged(run: Path, *, whole: bool = True) -> list[str]:
    """Return a sentence on each part that cannot be made out, set aside: its jobs will run again.

    Files are read whole (or, where there is very much, their ends). Propagates `UserError` if the
    system refuses to read a file: that says nothing about the file.
    """
    found = (signature(run / table / part) for part in live(run) for table in TABLES[:3])
    whole = whole and sum(one[1] for one in found if one) <= READ_WHOLE_BYTES
    notes = []
    for part in live(run):
        for table in TABLES:
            path = run / table / part
            if table in TABLES[2:] and not path.exists():
                continue
            if (reason := _fault(path, whole=whole)) is None:
                continue
            lost = TABLES if table != "probes" else ("probes",)
            for name in lost:
                path = run / name / part
                with contextlib.suppress(FileNotFoundError):  # another shard set it aside too
                    os.replace(path, path.with_suffix(".damaged"))
            then = "its jobs run again" if table != "probes" else "tiltcli probe makes them again"
            notes.append(f"set aside {table}/{part}, which cannot be read ({reason}); {then}")
            break
    return notes


def _fault(path: Path, *, whole: bool) -> str | None:
    def read() -> None:
        with pq.ParquetFile(path) as file:
            if whole:
                for _ in file.iter_batches(1 << 18):
                    pass

    try:
        patiently(path, read)
    except FileNotFoundError:
        return "it is missing"
    except Damaged as error:
        return error.reason
    return None
