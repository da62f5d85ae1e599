"""Writing a run: one writer at a time, finished jobs in parts, nothing ever half-written."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import filelock
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tiltcli.engines.base import Block
from tiltcli.records import METRIC_COLUMNS, Outcome, UserError
from tiltcli.spec import Job, Sweep
from tiltcli.spec.settings import column_value
from tiltcli.store import parts, provenance
from tiltcli.store.parts import Part
from tiltcli.store.schema import JOBS, METRICS

SPILL_ROWS = 1 << 18
"""Rows of metrics a running job keeps in memory; beyond, they go to a file of its own."""

COMMIT_SECONDS = 1.0
COMMIT_ROWS = 1 << 19
MOST_SMALL_PARTS, PARTS_AT_CLOSE = 16, 4
SMALL_BYTES = 16 << 20

_VALUES = [column.name for column in METRIC_COLUMNS if column.name != "job"]


class MetricsSpool:
    """Metrics of one running job: in memory while few, in a temporary file when many.

    So memory does not grow with the number of epochs.
    """

    def __init__(self, job: str, folder: Path) -> None:
        self.job = job
        self.rows = 0
        self.last: dict[str, float] = {}
        self._folder = folder
        self._blocks: list[Block] = []
        self._held = 0
        self._writer: pq.ParquetWriter | None = None
        self._path: Path | None = None

    def add(self, block: Block) -> None:
        """Take a block of rows."""
        count = len(block.epoch)
        if not count:
            return
        self.last = {name: float(getattr(block, name)[-1]) for name in _VALUES}
        self._blocks.append(block)
        self.rows += count
        self._held += count
        if self._held >= SPILL_ROWS:
            self._spill()

    def _spill(self) -> None:
        if self._writer is None:
            self._path = self._folder / f".{self.job}.{os.getpid()}.tmp"
            self._writer = pq.ParquetWriter(self._path, METRICS, compression="zstd")
        self._writer.write_table(metrics_table([(self.job, self._blocks)]))
        self._blocks, self._held = [], 0

    def finish(self) -> list[Block] | Path:
        """Return the blocks, or the finished file where there were too many."""
        if self._writer is None or self._path is None:
            return self._blocks
        if self._blocks:
            self._spill()
        self._writer.close()
        return self._path

    def discard(self) -> None:
        """Drop everything: the job will be run again."""
        if self._writer is not None:
            self._writer.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self._blocks = []


@dataclass(frozen=True)
class Finished:
    """A job that ended: its row of the jobs table, and its metrics."""

    row: Mapping[str, Any]
    metrics: list[Block] | Path
    rows: int


def metrics_table(jobs: Sequence[tuple[str, Sequence[Block]]]) -> pa.Table:
    """Metrics of several jobs as one table; NaN in the validation columns becomes null."""
    blocks = [block for _, some in jobs for block in some]
    names = [name for name, some in jobs for block in some for _ in range(len(block.epoch))]
    columns: list[Any] = [pa.array(names, pa.string())]
    for field in METRICS:
        if field.name == "job":
            continue
        values = np.concatenate([getattr(block, field.name) for block in blocks] or [np.empty(0)])
        columns.append(pa.array(values, field.type, from_pandas=field.name.startswith("val_")))
    return pa.Table.from_arrays(columns, schema=METRICS)


def setting_columns(job: Job) -> dict[str, Any]:
    """Settings of a job as its columns."""
    row = {key: column_value(value) for key, value in job.settings.items()}
    row["train.batch_size"] = str(row["train.batch_size"])
    return row


class RunWriter:
    """Sole writer of a run directory; use as a context manager.

    Raises:
        UserError: on entry, if another process is writing the run, if the folder cannot be
            written to, or if the run was made by another grid.

    """

    def __init__(self, folder: Path, sweep: Sweep, command: Sequence[str], fresh: bool) -> None:
        self.folder = folder
        self.notes: list[str] = []
        self._sweep = sweep
        self._command = command
        self._fresh = fresh
        self._lock = filelock.FileLock(folder.parent / f".{folder.name}.lock")
        self._waiting: list[Finished] = []
        self._waiting_rows = 0
        self._committed = time.monotonic()
        self._next = 0
        self._superseded: set[str] = set()

    def __enter__(self) -> Self:
        """Lock the run, mend what a killed writer left, record where the run comes from."""
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise UserError(
                f"{self.folder}: in use by another tiltcli process; wait for it, or "
                "give this run another name"
            ) from None
        except OSError as error:
            raise UserError(
                f"{self.folder}: cannot be written: {error.strerror or error}"
            ) from None
        try:
            self._open()
        except OSError as error:
            self._lock.release()
            raise UserError(
                f"{self.folder}: cannot be written: {error.strerror or error}"
            ) from None
        except BaseException:
            self._lock.release()
            raise
        return self

    def _open(self) -> None:
        if self._fresh and self.folder.exists():
            self._remove()
        provenance.check_same_grid(self.folder, self._sweep)
        for name in ("jobs", "metrics"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._set_aside_damaged()
        if removed := parts.sweep_litter(self.folder):
            self.notes.append(f"removed what a killed run left: {', '.join(removed)}")
        numbers = [part.last for part in parts.live(self.folder)]
        self._next = max(numbers, default=-1) + 1
        provenance.record(self.folder, self._sweep, self._command)

    def _remove(self) -> None:
        """Remove an earlier run, and nothing that is not one."""
        if any(self.folder.iterdir()) and not (self.folder / "sweep.toml").is_file():
            raise UserError(f"{self.folder}: not a run (no sweep.toml); --fresh will not remove it")
        shutil.rmtree(self.folder)

    def _set_aside_damaged(self) -> None:
        """A part that cannot be read does not count; its jobs will run again."""
        for part in parts.live(self.folder):
            for name in ("jobs", "metrics"):
                path = self.folder / name / part.filename
                try:
                    pq.read_metadata(path)
                except (OSError, pa.ArrowException) as error:
                    for other in ("jobs", "metrics"):
                        bad = self.folder / other / part.filename
                        if bad.exists():
                            os.replace(bad, bad.with_suffix(".damaged"))
                    self.notes.append(
                        f"set aside {name}/{part.filename}, which cannot be read "
                        f"({str(error)[:100]}); its jobs run again"
                    )
                    break

    def __exit__(self, *exception: object) -> None:
        """Write what is finished, tidy up, let go of the run."""
        try:
            self.commit()
            self._merge(least=PARTS_AT_CLOSE)
        finally:
            self._lock.release()

    def outcomes(self) -> dict[str, str]:
        """Outcome of every job that has ended, by id."""
        ended: dict[str, str] = {}
        for part in parts.live(self.folder):
            table = pq.read_table(self.folder / "jobs" / part.filename, columns=["job", "outcome"])
            ended.update(zip(table["job"].to_pylist(), table["outcome"].to_pylist(), strict=True))
        return ended

    def add(self, finished: Finished) -> None:
        """Take a finished job; it is on disk within about a second."""
        self._waiting.append(finished)
        self._waiting_rows += finished.rows
        waited = time.monotonic() - self._committed
        if waited >= COMMIT_SECONDS or self._waiting_rows >= COMMIT_ROWS:
            self.commit()

    def commit(self) -> None:
        """Write the waiting jobs as parts."""
        waiting, self._waiting, self._waiting_rows = self._waiting, [], 0
        spilled = [one for one in waiting if isinstance(one.metrics, Path)]
        small = [one for one in waiting if not isinstance(one.metrics, Path)]
        if small:
            table = metrics_table(
                [
                    (one.row["job"], one.metrics)
                    for one in small
                    if not isinstance(one.metrics, Path)
                ]
            )
            path = self._metrics_path()
            parts.write_whole(path, lambda to: pq.write_table(table, to, compression="zstd"))
            self._write_jobs([one.row for one in small])
        for one in spilled:
            assert isinstance(one.metrics, Path)
            os.replace(one.metrics, self._metrics_path())
            self._write_jobs([one.row])
        self._committed = time.monotonic()
        self._merge(least=MOST_SMALL_PARTS)

    def _metrics_path(self) -> Path:
        return self.folder / "metrics" / Part(self._next, self._next).filename

    def _write_jobs(self, rows: Sequence[Mapping[str, Any]]) -> None:
        table = pa.Table.from_pylist([dict(row) for row in rows], schema=JOBS)
        path = self.folder / "jobs" / Part(self._next, self._next).filename
        parts.write_whole(path, lambda to: pq.write_table(table, to, compression="zstd"))
        self._next += 1

    def retry(self, jobs: set[str]) -> None:
        """Announce failed jobs that are run again: their old rows go once they have new ones."""
        self._superseded |= jobs

    def _merge(self, least: int) -> None:
        """Merge neighbouring small parts where there are at least so many."""
        group: list[Part] = []
        for part in [*parts.live(self.folder), None]:
            if part is not None and self._size(part) < SMALL_BYTES:
                group.append(part)
                continue
            retried = self._superseded and least == PARTS_AT_CLOSE
            if len(group) >= least or retried:
                self._merge_group(group)
            group = []

    def _size(self, part: Part) -> int:
        return (self.folder / "metrics" / part.filename).stat().st_size

    def _merge_group(self, group: Sequence[Part]) -> None:
        merged = Part(group[0].first, group[-1].last)
        if len(group) < 2:
            return
        jobs = pa.concat_tables(
            [pq.read_table(self.folder / "jobs" / part.filename, schema=JOBS) for part in group]
        )
        jobs = self._without_retried(jobs)

        def copy(to: Path) -> None:
            with pq.ParquetWriter(to, METRICS, compression="zstd") as writer:
                tables = [
                    pq.read_table(self.folder / "metrics" / part.filename, schema=METRICS)
                    for part in group
                ]
                writer.write_table(pa.concat_tables(tables).combine_chunks())

        parts.write_whole(self.folder / "metrics" / merged.filename, copy)
        parts.write_whole(
            self.folder / "jobs" / merged.filename,
            lambda to: pq.write_table(jobs, to, compression="zstd"),
        )
        for part in group:
            for name in ("jobs", "metrics"):
                (self.folder / name / part.filename).unlink(missing_ok=True)

    def _without_retried(self, jobs: pa.Table) -> pa.Table:
        """Drop the failed row of a job that has a later one."""
        names, outcomes = jobs["job"].to_pylist(), jobs["outcome"].to_pylist()
        latest = {name: i for i, name in enumerate(names)}
        keep = [latest[name] == i or outcomes[i] != Outcome.FAILED for i, name in enumerate(names)]
        return jobs.filter(pa.array(keep, pa.bool_()))
