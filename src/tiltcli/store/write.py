"""Writing a run: who may, what is done already, and how finished jobs get into it.

Several jobs go to a commit, and each in time.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from tiltcli.errors import Outcome, UserError
from tiltcli.grid import Sweep, kept_grids
from tiltcli.grid.shards import Shard
from tiltcli.store import parts, provenance
from tiltcli.store.files import writing
from tiltcli.store.locks import RunLock
from tiltcli.store.part_files import PartFiles
from tiltcli.store.parts import writer_name
from tiltcli.store.spool import Finished

COMMIT_SECONDS = 1.0
"""Time that a finished job may wait for others to be committed with it, early in a run."""

COMMIT_SHARE = 1 / 256
"""The same, as a part of the time since the run was opened: it is what a kill may cost."""

WRITING_SHARE = 1 / 32
"""Part of the time that commits may take."""

COMMIT_ROWS = 1 << 19


class RunWriter:
    """Hold on a run directory, alone or for one shard; use as a context manager.

    Alone, it mends the whole run. As a shard it shares the run with other shards and looks after
    its own files only.

    `fresh` removes an earlier run first; with `extend` a run made by another grid grows by this
    one's jobs. The command line is for the provenance.

    Finished jobs go to parts of its own, as many writers of a run do in turn.

    Raises:
        UserError: on entry, if another process is writing the run or this shard of it, if the
            folder cannot be written to, or if the run was made by another grid. Whatever writes:
            `Unwritable` if the disk is full.

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
        name = shard.name if shard else ""
        self.folder = folder
        self.files = PartFiles(folder, name)
        self.notes: list[str] = []
        self._lock = RunLock(folder, name or None)
        self._sweep = sweep
        self._command = command
        self._fresh = fresh
        self._extend = extend
        self._shard = shard
        self._waiting: list[Finished] = []
        self._probes: list[Mapping[str, Any]] = []
        self._rows = 0
        self._opened = self._committed = time.monotonic()
        self._cost = 0.0
        self._guard = threading.RLock()
        self._timer: threading.Timer | None = None
        self._fault: BaseException | None = None

    def check(self) -> None:
        """Check, without writing anything, what entering would refuse."""
        above = (self.folder, *self.folder.absolute().parents)
        place = next(path for path in above if path.exists())
        number = 0
        if not place.is_dir():
            number = errno.ENOTDIR if place != self.folder else 0
        elif not os.access(place, os.W_OK | os.X_OK):
            read_only = hasattr(os, "statvfs") and os.statvfs(place).f_flag & os.ST_RDONLY
            number = errno.EROFS if read_only else errno.EACCES
        if number:
            raise UserError(f"{self.folder}: cannot be written: {os.strerror(number)}")
        self._lock.check()
        if self._fresh and self.folder.exists():
            self._check_removable()
        else:
            provenance.check_same_grid(self.folder, self._sweep, self._extend)

    def __enter__(self) -> Self:
        """Lock the run, mend what a killed writer left, record where the run comes from."""
        facts = provenance.machine()  # takes a moment: not while others wait at the gate
        with ExitStack() as held:
            with self._lock.gate():
                self._lock.acquire()
                held.callback(self._lock.release)
                with writing(self.folder):
                    self._open(facts)
            self._mend()
            held.pop_all()
        return self

    def _open(self, facts: dict[str, object]) -> None:
        if self._fresh and self.folder.exists():
            self._check_removable()
            shutil.rmtree(self.folder)
        provenance.check_same_grid(self.folder, self._sweep, self._extend)
        for name in ("jobs", "metrics"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        if not self._lock.works:
            self.files.name = writer_name(self.name or "alone")
        invocation = {**facts, "command": list(self._command)}
        if files := provenance.files_of(self._sweep, self.folder):
            invocation["files"] = files
        if self._shard:
            invocation["shard"] = str(self._shard)
        provenance.record(self.folder, self._sweep, invocation)

    def _mend(self) -> None:
        if not self._lock.works:
            self.notes.append(
                f"the file system of {self.folder} has no locks: nothing keeps two clients from "
                "doing the same jobs (the results would still be right)"
            )
        with self._lock.turn():
            self.notes += parts.set_aside_damaged(self.folder, whole=self._shard is None)
            if not self._lock.works:
                return
            owner = self._shard.name if self._shard else None
            if removed := parts.remove_litter(self.folder, owner):
                self.notes.append(f"removed what a killed run left: {', '.join(removed)}")
            if self._shard is None:
                self.files.tidy()

    def _apart(self) -> Callable[[str], bool]:
        """Other shards of one and the same grid."""
        if self._shard and self._lock.works and len(kept_grids(self.folder)) == 1:
            return self._shard.apart
        return lambda writer: False

    def _check_removable(self) -> None:
        if not self.folder.is_dir():
            raise UserError(f"{self.folder}: is in the way: not a folder")
        if any(self.folder.iterdir()) and not (self.folder / "sweep.toml").is_file():
            raise UserError(f"{self.folder}: not a run (no sweep.toml); --fresh will not remove it")

    def __exit__(self, *exception: object) -> None:
        """Write what is finished, and let go of the run."""
        try:
            self.commit()
            with self._lock.turn():
                self.files.close()
        finally:
            self._lock.release()

    def outcomes(self) -> dict[str, str]:
        """Return the outcome of every job that has ended, by id; whoever did it."""
        self.files.index.look()
        return dict(self.files.index.outcomes)

    @property
    def name(self) -> str:
        """Name of the writer, for the jobs' temporary files."""
        return self.files.name

    def add(self, finished: Finished) -> None:
        """Take a finished job; it is on disk within about a second."""
        with self._guard:
            self._waiting.append(finished)
            self._rows += finished.rows
            self._commit_in_time()

    def add_probes(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take probes of jobs that have ended before; they replace those of the same epochs."""
        with self._guard:
            self._probes += rows
            self._commit_in_time()

    def _commit_in_time(self) -> None:
        now = time.monotonic()
        shares = (self._cost / WRITING_SHARE, (now - self._opened) * COMMIT_SHARE)
        left = self._committed + max(COMMIT_SECONDS, *shares) - now
        if left <= 0 or self._rows >= COMMIT_ROWS or self._fault is not None:
            self.commit()
        elif self._timer is None:
            # Who knows when the next job ends.
            self._timer = threading.Timer(left, self._commit_late)
            self._timer.daemon = True
            self._timer.start()

    def _commit_late(self) -> None:
        with self._guard:
            try:
                self.commit()
            except BaseException as error:
                self._fault = error  # for who calls next

    def commit(self) -> None:
        """Write the waiting jobs."""
        with self._guard:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._fault is not None:
                fault, self._fault = self._fault, None
                raise fault
            waiting, self._waiting, self._rows = self._waiting, [], 0
            probes, self._probes = self._probes, []
            if not waiting and not probes:
                return
            begun = time.monotonic()
            with self._lock.turn() as undisturbed:
                self.files.index.look(self._apart())
                self._write(waiting, undisturbed)
                self._write_probes(probes, undisturbed)
            self._committed = time.monotonic()
            self._cost = self._committed - begun

    def _write(self, waiting: Sequence[Finished], undisturbed: bool) -> None:
        index = self.files.index
        short: list[Finished] = []
        again: dict[str, list[Finished]] = {}
        for one in waiting:
            job = str(one.row["job"])
            before = index.outcomes.get(job)
            if before not in (None, Outcome.FAILED):
                # Another writer has it, with the same numbers: they depend on the job alone.
                one.discard()
            elif before is not None and self._may_change(index.part_of[job], undisturbed):
                again.setdefault(index.part_of[job], []).append(one)
            elif isinstance(one.metrics, Path):
                self.files.append([one], new=True)
            else:
                short.append(one)
        if short:
            self.files.append(short)
        for part, some in again.items():
            self.files.put(part, some)

    def _write_probes(self, rows: Sequence[Mapping[str, Any]], undisturbed: bool) -> None:
        there: dict[str, list[Mapping[str, Any]]] = {}
        elsewhere = []
        for row in rows:
            part = self.files.index.part_of.get(row["job"], "")
            if self._may_change(part, undisturbed):
                there.setdefault(part, []).append(row)
            else:
                elsewhere.append(row)
        for part, some in there.items():
            self.files.merge_probes(part, some)
        if elsewhere:
            self.files.append([], elsewhere)

    def _may_change(self, part: str, undisturbed: bool) -> bool:
        """Whether rows of a part may be replaced: of one's own, or while nobody else writes."""
        parsed = parts.parse(part)
        return parsed is not None and (undisturbed or parsed[0] == self.files.name)
