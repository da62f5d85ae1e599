"""A series of parts: how finished jobs get from one process into a run's folder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from tiltcli.store import parts
from tiltcli.store.columns import JOBS, METRICS, PROBES
from tiltcli.store.deduplicate import Mask, deduplicate, rows_of_kept
from tiltcli.store.jobs_files import read_jobs_file
from tiltcli.store.parts import Part, Unwritable
from tiltcli.store.probe_rows import in_order, merged_probes, probes_table
from tiltcli.store.spool import Finished, MetricsSpool, metrics_table, metrics_writer

COMMIT_SECONDS = 1.0
COMMIT_ROWS = 1 << 19
MOST_SMALL_PARTS, PARTS_AT_CLOSE = 16, 4
SMALL_BYTES = 16 << 20
GATHERED_BYTES = 64 << 20
GROUP_ROWS = 1 << 20
"""Rows of metrics in a row group, and so in memory, while parts are copied."""


class PartWriter:
    """Writes finished jobs as parts under a name of its own; use as a context manager.

    It takes no lock and asks nobody, so any number of processes, on any machine that sees the
    folder, may each have one, as long as each has its own name:

        with PartWriter(run_folder, writer_name("w-host-1234")) as writer:
            writer.add(finished)      # on disk within about a second
            writer.commit()           # … or now

    A worker needs no more than this. Who started it holds the run (a `RunWriter`), knows which
    jobs are done, and gathers the workers' small parts in the end.

    Args:
        folder: of the run; its jobs and metrics folders must be there.
        name: of the writer, from `writer_name`; empty for the one client that holds the run.

    """

    def __init__(self, folder: Path, name: str = "") -> None:
        self.folder = folder
        self.name = name
        self.notes: list[str] = []
        self._waiting: list[Finished] = []
        self._waiting_rows = 0
        self._since = time.monotonic()
        own = [part.last for part in parts.found(folder / "jobs") if part.writer == name]
        self._next = max(own, default=-1) + 1

    def __enter__(self) -> Self:
        """Nothing to open."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Write what waits, and merge small parts."""
        self.close()

    def close(self) -> None:
        """Write what waits, and merge small parts."""
        self.commit()
        self._merge(least=PARTS_AT_CLOSE)

    def spool(self, job: str) -> MetricsSpool:
        """Return where a job that this writer will take collects its metrics."""
        return MetricsSpool(job, self.folder / "metrics", self.name)

    def add(self, finished: Finished) -> None:
        """Take a finished job; it is on disk within about a second.

        Propagates `Unwritable` if the disk is full.
        """
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append(finished)
        self._waiting_rows += finished.rows
        waited = time.monotonic() - self._since
        if waited >= COMMIT_SECONDS or self._waiting_rows >= COMMIT_ROWS:
            self.commit()

    def commit(self) -> None:
        """Write the waiting jobs as parts.

        Propagates `Unwritable` if the disk is full.
        """
        waiting, self._waiting, self._waiting_rows = self._waiting, [], 0
        small = [(one, one.metrics) for one in waiting if not isinstance(one.metrics, Path)]
        if small:
            table = metrics_table([(one.row["job"], blocks) for one, blocks in small])
            self._write_metrics(table)
            self._write_probes([row for one, _ in small for row in one.probes])
            self._write_jobs([one.row for one, _ in small])
        for one in waiting:
            if isinstance(one.metrics, Path):
                os.replace(one.metrics, self._path("metrics", self._next))
                self._write_probes(one.probes)
                self._write_jobs([one.row])
        self._merge(least=MOST_SMALL_PARTS)

    def add_probes(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write probes of jobs that have ended before, as a part without jobs.

        Propagates `Unwritable` if the disk is full.
        """
        if rows:
            self._write_metrics(METRICS.empty_table())
            self._write_probes(rows)
            self._write_jobs([])
            self._merge(least=MOST_SMALL_PARTS)

    def _write_metrics(self, table: pa.Table) -> None:
        def write(to: Path) -> None:
            with metrics_writer(to) as writer:
                writer.write_table(table)

        parts.write_whole(self._path("metrics", self._next), write)

    def _write_probes(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            (self.folder / "probes").mkdir(exist_ok=True)
            _write(self._path("probes", self._next), probes_table(rows))

    def _path(self, table: str, number: int) -> Path:
        return self.folder / table / Part(self.name, number, number).filename

    def _write_jobs(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Make the part count, whose other tables are written."""
        table = pa.Table.from_pylist([dict(row) for row in rows], schema=JOBS)
        try:
            _write(self._path("jobs", self._next), table)
        except Unwritable:
            # On a full disk, what will not count should not take room either.
            for name in ("metrics", "probes"):
                self._path(name, self._next).unlink(missing_ok=True)
            raise
        self._next += 1

    def _merge(self, least: int) -> None:
        """Merge neighbouring small parts of this writer where there are at least so many."""
        group: list[Part] = []
        own = [part for part in parts.live(self.folder) if part.writer == self.name]
        for part in [*own, None]:
            if part is not None and size_of(self.folder, part) < SMALL_BYTES:
                group.append(part)
                continue
            if len(group) >= max(least, 2):
                merged = Part(self.name, group[0].first, group[-1].last)
                self._tidy(group, merged, None)
            group = []

    def gather(self, others: Sequence[Part], masks: Mapping[Part, Mask] | None) -> None:
        """Take over parts of any writer: copy what counts into parts of this one, remove them.

        Args:
            others: parts to take over.
            masks: for each part the rows of its jobs that count; None if all do.

        """
        group: list[Part] = []
        held = 0
        for part in [*others, None]:
            if group and (part is None or held >= GATHERED_BYTES):
                if not self._tidy(group, Part(self.name, self._next, self._next), masks):
                    return
                self._next += 1
                group, held = [], 0
            if part is not None:
                group.append(part)
                held += size_of(self.folder, part)

    def _tidy(self, group: Sequence[Part], merged: Part, masks: Mapping[Part, Mask] | None) -> bool:
        """Copy parts into one and remove them; whatever goes wrong, no job is lost by it."""
        try:
            self._copy(group, merged, masks)
        except FileNotFoundError:
            return False  # somebody else has taken them over in the meantime
        except (OSError, pa.ArrowException, Unwritable) as error:
            self.notes.append(f"small files were left unmerged: {str(error)[:150]}")
            return False
        for part in group:
            for table in ("jobs", "metrics"):
                (self.folder / table / part.filename).unlink(missing_ok=True)
        for path in _probed(self.folder, group):
            path.unlink(missing_ok=True)
        return True

    def _copy(self, group: Sequence[Part], merged: Part, masks: Mapping[Part, Mask] | None) -> None:
        jobs = [read_jobs_file(self.folder / "jobs" / part.filename) for part in group]
        chosen = deduplicate(jobs) if masks is None else [masks[part] for part in group]

        def metrics() -> Iterator[pa.Table]:
            for number, part in enumerate(group):
                path = self.folder / "metrics" / part.filename
                with pq.ParquetFile(path) as file:
                    # Arrow makes room for as many rows as it is asked for, however few there are.
                    rows = min(GROUP_ROWS, max(file.metadata.num_rows, 1))
                    for batch in file.iter_batches(rows):
                        table = pa.Table.from_batches([batch]).cast(METRICS)
                        yield rows_of_kept(table, jobs[number], chosen[number]) if chosen else table

        def copy(to: Path) -> None:
            with metrics_writer(to) as writer:
                for table in _grouped(metrics()):
                    writer.write_table(table)

        parts.write_whole(self.folder / "metrics" / merged.filename, copy)
        if probed := _probed(self.folder, in_order(group)):
            probes = merged_probes([pq.read_table(path, schema=PROBES) for path in probed])
            _write(self.folder / "probes" / merged.filename, probes)
        kept = [
            table.filter(pa.array(chosen[i])) if chosen else table for i, table in enumerate(jobs)
        ]
        whole = pa.concat_tables(kept).combine_chunks()
        _write(self.folder / "jobs" / merged.filename, whole)


def _write(path: Path, table: pa.Table) -> None:
    parts.write_whole(path, lambda to: pq.write_table(table, to, compression="zstd"))


def _probed(folder: Path, group: Sequence[Part]) -> list[Path]:
    """Probes of those parts that have any."""
    paths = [folder / "probes" / part.filename for part in group]
    return [path for path in paths if path.exists()]


def _grouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join small tables into such as make a good row group."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(map(len, held)) >= GROUP_ROWS:
            yield pa.concat_tables(held).combine_chunks()
            held = []
    if held:
        yield pa.concat_tables(held).combine_chunks()


def size_of(folder: Path, part: Part) -> int:
    """Bytes of a part; 0 if it has gone."""
    total = 0
    for table in ("metrics", "jobs"):
        try:
            total += (folder / table / part.filename).stat().st_size
        except FileNotFoundError:
            return 0
    return total + sum(path.stat().st_size for path in _probed(folder, [part]))
