"""How finished jobs get from one process into a run: several to a commit, and each in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tiltcli.errors import Outcome
from tiltcli.store import parts
from tiltcli.store.locks import RunLock
from tiltcli.store.part_files import PartFiles
from tiltcli.store.spool import Finished

COMMIT_SECONDS = 1.0
"""Time that a finished job may wait for others to be committed with it, early in a run."""

COMMIT_SHARE = 1 / 256
"""The same, as a part of the time since the run was opened: it is what a kill may cost."""

WRITING_SHARE = 1 / 32
"""Part of the time that commits may take."""

COMMIT_ROWS = 1 << 19


class PartWriter:
    """Writes finished jobs to parts of its own, as many writers of a run do in turn.

    Whatever writes raises `Unwritable` if the disk is full.
    """

    def __init__(self, folder: Path, name: str, lock: RunLock) -> None:
        self.folder = folder
        self.files = PartFiles(folder, name)
        self._lock = lock
        self._waiting: list[Finished] = []
        self._probes: list[Mapping[str, Any]] = []
        self._rows = 0
        self._opened = self._committed = time.monotonic()
        self._cost = 0.0
        self._guard = threading.RLock()
        self._timer: threading.Timer | None = None
        self._fault: BaseException | None = None

    def _apart(self) -> Callable[[str], bool]:
        """Which writers never have the same jobs, so that their parts need no second look."""
        raise NotImplementedError

    def close(self) -> None:
        """Write what waits."""
        self.commit()
        with self._lock.turn():
            self.files.close()

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
