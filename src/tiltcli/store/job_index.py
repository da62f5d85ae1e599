"""Which jobs a run has, in which part each stands, and which of its rows counts.

Where several parts have one job, a row that ended well beats one that failed (it was run again);
among equals the last in the order of the parts counts. The same job gives the same numbers whoever
trains it, so the choice among equals changes nothing but the wall time shown.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tiltcli.errors import Outcome
from tiltcli.store import parts
from tiltcli.store.parts import Signature
from tiltcli.store.reading import read_part

KEYS = ["job", "outcome"]


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
        names = parts.live(self.folder)
        if not self._seen.keys() <= set(names):  # one was set aside
            for known in (self.outcomes, self.part_of, self.rows, self._seen):
                known.clear()
        for name in names:
            parsed = parts.parse(name)
            if name in self._seen and parsed is not None and skip(parsed[0]):
                continue
            path = self.folder / "jobs" / name
            found = parts.signature(path)
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
        self._seen[name] = parts.signature(self.folder / "jobs" / name)


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
