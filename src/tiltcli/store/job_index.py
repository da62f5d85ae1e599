"""Which jobs a run has, and in which part each stands; kept up to date by what has changed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from tiltcli.errors import Outcome
from tiltcli.store import parts
from tiltcli.store.parts import Signature
from tiltcli.store.reading import read_part

KEYS = ["job", "outcome"]


class JobIndex:
    """Jobs of a run's parts."""

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
