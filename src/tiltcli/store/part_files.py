"""The parts of one writer: what may be done to their files, and in which order."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tiltcli.store import files, parquet, parts
from tiltcli.store.files import Unwritable
from tiltcli.store.parquet import (
    JOBS,
    METRICS,
    PROBES,
    RECALL,
    fits,
    patiently,
    read_part,
    table_of_rows,
)
from tiltcli.store.parts import KEYS, JobIndex, deduplicate, part_name, rows_of
from tiltcli.store.probe_rows import merged_probes
from tiltcli.store.spool import Finished, table_of

PART_JOBS, PART_BYTES, PART_COMMITS = 1 << 13, 32 << 20, 64
"""What a part has before the next one is begun."""

BESIDES = {"metrics": METRICS, "probes": PROBES, "recall": RECALL}
"""Tables of a part besides its jobs; of the first it has always one, if only without rows."""


class PartFiles:
    """Parts of a run as one writer changes them; only in its turn.

    Whatever order the files of a part are written in, its jobs come last: a writer that is killed
    leaves rows of jobs that do not count, never jobs without rows. `Unwritable` is raised if the
    disk is full.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self.index = JobIndex(folder)
        # As this process left them: then no other was killed at them since.
        self._left: dict[str, list[parts.Signature | None]] = {}

    def append(
        self,
        some: Sequence[Finished],
        probes: Sequence[Mapping[str, Any]] = (),
        *,
        new: bool = False,
    ) -> None:
        """Add jobs (one whose metrics are a file: to a new part), and probes of jobs elsewhere."""
        part = self._last(new)
        new = part not in self.index.rows
        if new:
            self._discard(part)  # of a writer that was killed
        try:
            for table in ("metrics", "recall"):
                if len(some) == 1 and (file := some[0].file(table)):
                    files.adopt(file, self._path(table, part))
                    continue
                rows = table_of(table, some)
                if len(rows) or table == "metrics":
                    parquet.extend(self._path(table, part), rows)
            if measured := [*probes, *(row for one in some for row in one.probes)]:
                parquet.extend(self._path("probes", part), table_of_rows(measured, PROBES))
            self._write_jobs(part, _jobs_table(some))
        except Unwritable:
            if new:  # on a full disk, what will not count should not take room either
                self._discard(part)
            raise

    def put(self, part: str, some: Sequence[Finished]) -> None:
        """Put jobs in the place of their failed selves."""
        new = _jobs_table(some)
        kept = read_part(self.folder / "jobs" / part, ["job"])["job"]
        kept = kept.filter(pc.invert(pc.is_in(kept, value_set=new["job"])))
        for table in BESIDES:
            self._keep(table, part, kept, table_of(table, some))
        self._write_jobs(part, new)
        for one in some:
            one.discard()

    def _write_jobs(self, part: str, new: pa.Table) -> None:
        """Add jobs to a part's others, or put them in the place of their former selves."""
        path = self.folder / "jobs" / part
        if part in self.index.rows:
            before = read_part(path, JOBS)
            others = pc.invert(pc.is_in(before["job"], value_set=new["job"]))
            new = pa.concat_tables([before.filter(others), new]).combine_chunks()
        # Not a row group each time: each would have all the many columns.
        parquet.replace(path, new)
        self.index.take(part, new)
        self._left[part] = self._signatures(part)

    def merge_probes(self, part: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Bring probes to those that a part has of the same jobs and epochs."""
        path, new = self.folder / "probes" / part, table_of_rows(rows, PROBES)
        if path.exists():
            before = read_part(path, PROBES)
            whole = merged_probes([before, new])
            if len(whole) < len(before) + len(new) or not fits(path, PROBES):
                parquet.replace(path, whole)
                return
        parquet.extend(self._path("probes", part), new)

    def close(self) -> None:
        """Leave out of one's parts what does not count any more."""
        for part in self._left:
            self._shrink(part)

    def _shrink(self, part: str) -> None:
        if self._left[part] != self._signatures(part):
            return
        for table in ("jobs", *BESIDES):
            path = self.folder / table / part
            if path.exists():
                parquet.shrink(path)
        self._left[part] = self._signatures(part)
        self.index.looked_at(part)

    def tidy(self) -> None:
        """Remove rows that do not count from all parts; only while nobody else writes."""
        self.index.look()
        last = {(parts.parse(part) or part)[0]: part for part in sorted(self.index.rows)}
        for part in last.values():
            self._settle(part)
        for part in self.index.rows:
            path = self.folder / "jobs" / part
            if not fits(path, JOBS):  # by an earlier version, with other columns
                parquet.replace(path, read_part(path, JOBS).combine_chunks())
        if sum(self.index.rows.values()) == len(self.index.outcomes):
            return
        # Two writers had the same job: without locks, or in a merge of an earlier version.
        names = sorted(self.index.rows)
        masks = deduplicate([read_part(self.folder / "jobs" / part, KEYS) for part in names])
        for part, mask in zip(names, masks or (), strict=True):
            if not mask.all():
                self._drop(part, mask)
        self.index.look()

    def _drop(self, part: str, mask: Any) -> None:
        """Keep only some jobs of a part."""
        path = self.folder / "jobs" / part
        if not mask.any():
            path.unlink()
            self._discard(part)
            return
        jobs = read_part(path, JOBS).filter(pa.array(mask))
        parquet.replace(path, jobs.combine_chunks())
        for table in BESIDES:
            self._keep(table, part, jobs["job"])

    def _last(self, new: bool) -> str:
        """Part that the next jobs go to: the last one, unless it is large or a new one is asked."""
        own = {
            parsed[1]
            for part in self.index.rows
            if (parsed := parts.parse(part)) and part == part_name(*parsed)
            if parsed[0] == self.name
        }
        if not own:
            return part_name(self.name, 0)
        last = part_name(self.name, max(own))
        if self._settle(last) and not new and self._has_room(last):
            return last
        if last in self._left:
            self._shrink(last)
        return part_name(self.name, max(own) + 1)

    def _has_room(self, part: str) -> bool:
        size = sum(found[1] for found in self._signatures(part) if found)
        path = self.folder / "metrics" / part
        commits = patiently(path, lambda: pq.read_metadata(path)).num_row_groups
        return self.index.rows[part] < PART_JOBS and size < PART_BYTES and commits < PART_COMMITS

    def _settle(self, part: str) -> bool:
        """Remove rows that a killed writer left; whether the part has today's columns."""
        if self._left.get(part) == self._signatures(part):
            return True
        path = self.folder / "jobs" / part
        jobs, grows = read_part(path, ["job"])["job"], fits(path, JOBS)
        for table, schema in BESIDES.items():
            path = self.folder / table / part
            if path.exists():
                grows = grows and fits(path, schema)
                self._keep(table, part, jobs)
        return grows

    def _keep(self, table: str, part: str, jobs: Any, more: pa.Table = None) -> None:
        """Let a part's file of a table hold the rows of these jobs only, and further ones."""
        path, schema = self.folder / table / part, BESIDES[table]
        more = more if more is not None else schema.empty_table()
        if not path.exists():
            if len(more):
                parquet.extend(self._path(table, part), more)
            return
        names = read_part(path, ["job"])["job"].unique()
        strays = not pc.all(pc.is_in(names, value_set=jobs), min_count=0).as_py()
        if strays or (len(more) and not fits(path, schema)):
            kept = rows_of(read_part(path, schema), jobs)
            parquet.replace(path, pa.concat_tables([kept, more]).combine_chunks())
        elif len(more):
            parquet.extend(path, more)

    def _path(self, table: str, part: str) -> Path:
        """Path of a file to be written, in a folder that is there."""
        path = self.folder / table / part
        path.parent.mkdir(exist_ok=True)
        return path

    def _signatures(self, part: str) -> list[parts.Signature | None]:
        return [parts.signature(self.folder / table / part) for table in ("jobs", *BESIDES)]

    def _discard(self, part: str) -> None:
        """Remove what a part that does not count has of other tables."""
        for table in BESIDES:
            with contextlib.suppress(OSError):
                (self.folder / table / part).unlink(missing_ok=True)


def _jobs_table(some: Sequence[Finished]) -> pa.Table:
    return pa.Table.from_pylist([dict(one.row) for one in some], schema=JOBS)
