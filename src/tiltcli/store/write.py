"""Writing a run: who may, what is done already, and few files in the end."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pyarrow.parquet as pq

from tiltcli.errors import UserError
from tiltcli.grid import Sweep
from tiltcli.grid.shards import Shard
from tiltcli.store import parts, provenance, quarantine
from tiltcli.store.deduplicate import deduplicate
from tiltcli.store.jobs_files import outdated
from tiltcli.store.locks import RunLock
from tiltcli.store.part_writer import PARTS_AT_CLOSE, SMALL_BYTES, PartWriter, size_of
from tiltcli.store.parts import writer_name
from tiltcli.store.read import outcomes
from tiltcli.store.spool import Finished


class RunWriter:
    """Hold on a run directory, alone or for one shard; use as a context manager.

    Alone, it tidies the whole run and quarantines what cannot be read. As a shard it shares the run
    with other shards and looks after its own files only; the last shard to end, with no job
    missing, tidies up for all.

    Args:
        folder: of the run.
        sweep: the grid it is made from.
        command: command line, for the provenance.
        fresh: remove an earlier run first.
        shard: which part of the jobs is written; None for all.
        extend: whether a run made by another grid grows by this one's jobs.

    Raises:
        UserError: on entry, if another process is writing the run or this shard of it, if the
            folder cannot be written to, or if the run was made by another grid.

    """

    def __init__(
        self,
        folder: Path,
        sweep: Sweep,
        command: Sequence[str],
        fresh: bool = False,
        shard: Shard | None = None,
        extend: bool = False,
    ) -> None:
        self.folder = folder
        self.notes: list[str] = []
        self._sweep = sweep
        self._command = command
        self._fresh = fresh
        self._extend = extend
        self._shard = shard
        self._lock = RunLock(folder, shard.name if shard else None)
        self._parts: PartWriter

    def check(self) -> None:
        """Check, without writing anything, what entering would refuse.

        Raises:
            UserError: if another process is writing the run or this shard of it, if the folder
                cannot be written to, or if the run was made by another grid.

        """
        above = (self.folder, *self.folder.absolute().parents)
        place = next(path for path in above if path.exists())
        number = 0
        if place.is_dir():
            number = 0 if os.access(place, os.W_OK | os.X_OK) else errno.EACCES
            if number and hasattr(os, "statvfs") and os.statvfs(place).f_flag & os.ST_RDONLY:
                number = errno.EROFS
        elif place != self.folder:
            number = errno.ENOTDIR
        if number:
            raise UserError(f"{self.folder}: cannot be written: {os.strerror(number)}")
        self._lock.check()
        if self._fresh and self.folder.exists():
            self._check_removable()
        else:
            provenance.check_same_grid(self.folder, self._sweep, self._extend)

    def __enter__(self) -> Self:
        """Lock the run, remove what a killed writer left, record where the run comes from."""
        facts = provenance.machine()  # takes a moment: not while others wait at the gate
        with self._lock.gate():
            self._lock.acquire()
            try:
                self._open(facts)
            except BaseException as error:
                self._lock.release()
                if isinstance(error, OSError):
                    reason = error.strerror or error
                    raise UserError(f"{self.folder}: cannot be written: {reason}") from None
                raise
        try:
            self._quarantine()
        except BaseException:
            self._lock.release()
            raise
        return self

    def _open(self, facts: dict[str, object]) -> None:
        if self._fresh and self.folder.exists():
            self._remove()
        provenance.check_same_grid(self.folder, self._sweep, self._extend)
        for name in ("jobs", "metrics"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        base = self._shard.name if self._shard else "" if self._lock.works else "alone"
        self._parts = PartWriter(self.folder, writer_name(base) if base else "")
        invocation = {**facts, "command": list(self._command)}
        if self._shard:
            invocation["shard"] = str(self._shard)
        provenance.record(self.folder, self._sweep, invocation, self._parts.name)

    def _quarantine(self) -> None:
        if not self._lock.works:
            self.notes.append(
                f"the file system of {self.folder} has no locks: nothing keeps two clients from "
                "doing the same jobs (the results would still be right)"
            )
        self.notes += quarantine.set_aside_damaged(self.folder, whole=self._shard is None)
        if not self._lock.works:
            return
        owner = f"{self._shard.name}-" if self._shard else None
        if removed := quarantine.remove_litter(self.folder, owner):
            self.notes.append(f"removed what a killed run left: {', '.join(removed)}")
        if self._shard:
            # What this shard's earlier processes left in small files becomes its own.
            self._gather(f"{self._shard.name}-")

    def _check_removable(self) -> None:
        if not self.folder.is_dir():
            raise UserError(f"{self.folder}: is in the way: not a folder")
        if any(self.folder.iterdir()) and not (self.folder / "sweep.toml").is_file():
            raise UserError(f"{self.folder}: not a run (no sweep.toml); --fresh will not remove it")

    def _remove(self) -> None:
        """Remove an earlier run, and nothing that is not one."""
        self._check_removable()
        shutil.rmtree(self.folder)

    def __exit__(self, *exception: object) -> None:
        """Write what is finished, tidy up, let go of the run."""
        try:
            self._parts.close()
            if self._shard is None:
                self._finish()
        finally:
            self._lock.release()
        if self._shard is not None and exception[0] is None:
            self._tidy_after_the_last_shard()
        self.notes += self._parts.notes

    def _tidy_after_the_last_shard(self) -> None:
        ended = self.outcomes()
        if not all(job.id in ended for job in self._sweep.jobs):
            return
        lock = RunLock(self.folder)
        with lock.gate():
            try:
                lock.acquire()
            except UserError:
                return  # another shard is at work yet: it will come here in its turn
        try:
            self._finish()
        finally:
            lock.release()

    def _finish(self) -> None:
        """Nobody else is writing: bring the files of all writers together."""
        if self._lock.works:
            self._gather("")
            provenance.fold(self.folder, self._sweep)

    def _gather(self, owner: str) -> None:
        """Take over small parts, parts of older versions and parts with rows that do not count."""
        live = parts.live(self.folder)
        try:
            tables = [_keys(self.folder, part) for part in live]
            old = {part for part in live if outdated(self.folder / "jobs" / part.filename)}
        except FileNotFoundError:
            return  # somebody is merging: not now
        masks = deduplicate(tables)
        of_each = dict(zip(live, masks, strict=True)) if masks is not None else None
        chosen = [
            part
            for part in live
            if part.writer.startswith(owner)
            and (
                size_of(self.folder, part) < SMALL_BYTES
                or part in old
                or (of_each is not None and not of_each[part].all())
            )
        ]
        foreign = any(part.writer != self._parts.name for part in chosen)
        repeated = of_each is not None and any(not of_each[part].all() for part in chosen)
        if repeated or old.intersection(chosen) or (foreign and len(chosen) >= PARTS_AT_CLOSE):
            self._parts.gather(chosen, of_each)

    def outcomes(self) -> dict[str, str]:
        """Outcome of every job that has ended, by id; whoever did it."""
        return outcomes(self.folder)

    @property
    def name(self) -> str:
        """Name of the part writer, for the jobs' temporary files."""
        return self._parts.name

    def add(self, finished: Finished) -> None:
        """Take a finished job; it is on disk within about a second.

        Propagates `Unwritable` if the disk is full.
        """
        self._parts.add(finished)

    def add_probes(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write probes of jobs that have ended before; they replace those of the same epochs.

        Propagates `Unwritable` if the disk is full.
        """
        self._parts.add_probes(rows)

    def commit(self) -> None:
        """Write the waiting jobs as parts.

        Propagates `Unwritable` if the disk is full.
        """
        self._parts.commit()


def _keys(folder: Path, part: parts.Part) -> object:
    return pq.read_table(folder / "jobs" / part.filename, columns=["job", "outcome"])
