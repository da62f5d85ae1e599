"""Jobs of a sweep that have ended, as a table of cells while more come in."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

    from tiltcli.evaluation.cells import Cells

OF_CELLS = (
    *("job", "outcome", "labels", "data.classes"),
    *("data.seed", "train.seed", "model.width", "loss.kind", "loss.amplitude", "loss.period"),
    *("train_accuracy", "val_accuracy"),
)
"""Columns of the jobs table that a table of cells is made of, beside the settings that vary."""


class Gathered(NamedTuple):
    """Cells of the jobs that have ended."""

    cells: Cells  # the table
    metric: str  # what chooses among them
    over: str  # what their means are over, in a word


class Ended:
    """Rows of jobs that have ended, in some columns, and the table of their cells."""

    SHARE = 0.05
    """Of the time, that gathering cells anew may take while a sweep runs."""

    def __init__(self, settings: Iterable[str] = ()) -> None:
        self.columns = tuple(dict.fromkeys((*OF_CELLS, *settings)))
        self._tables: list[pd.DataFrame] = []
        self._rows: list[tuple[Any, ...]] = []
        self._lock = threading.Lock()
        self._gathered: Gathered | None = None
        self._stale, self._not_before = False, 0.0

    def add(self, row: Mapping[str, Any]) -> None:
        """Take the row of a job."""
        with self._lock:
            self._rows.append(tuple(map(row.get, self.columns)))
            self._stale = True

    def add_table(self, jobs: pd.DataFrame) -> None:
        """Take many rows, of earlier runs."""
        with self._lock:
            self._tables.append(jobs.reindex(columns=list(self.columns)))
            self._stale = True

    def cells(self, *, now: bool = False) -> Gathered | None:
        """Return the cells so far, made anew now and then, or `now`; None before the first job."""
        if self._stale and (now or time.monotonic() >= self._not_before):
            started = time.monotonic()
            self._gathered = self._gather()
            ended = time.monotonic()
            self._not_before = ended + (ended - started) / self.SHARE
        return self._gathered

    def _gather(self) -> Gathered:
        import pandas as pd

        from tiltcli.evaluation.cells import choosing_metric, gather

        with self._lock:
            rows, self._rows, self._stale = self._rows, [], False
        tables = self._tables
        if rows:
            tables.append(pd.DataFrame(rows, columns=list(self.columns), dtype=object))
        # A job that was run again ended as it did the last time.
        jobs = pd.concat(tables, ignore_index=True).drop_duplicates("job", keep="last")
        self._tables = [jobs]
        metric = choosing_metric(jobs)
        over = "replicates" if jobs["data.seed"].nunique() > 1 else "seeds"
        return Gathered(gather(jobs.reset_index(drop=True), [metric]), metric, over)
