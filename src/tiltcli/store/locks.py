"""Who may write a run: one client alone, or any number of shards with different numbers.

Locks are files beside the run's folder, freed by the system when their holder dies. They guard
against mistakes, not the data: parts are whole and each has one writer, so that on a file system
without locks (some NFS mounts) a run still comes out right, with work done twice.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import filelock

from tiltcli.errors import UserError, listing
from tiltcli.store.files import unwritable

GATE_SECONDS = 120.0
_ABSENT = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


class RunLock:
    """Hold on a run, for one shard of it or (None) alone; `UserError` where others have it."""

    def __init__(self, folder: Path, shard: str | None = None) -> None:
        self.folder = folder
        self.shard = shard
        self._main = self._lock("")
        # ~ is not allowed in a run's name, so no other run's lock is called like this.
        self._gate = self._lock("~gate")
        self._commits = self._lock("~commit")
        self._own = self._main if shard is None else self._lock(f"~{shard}")
        self.works = True
        self._patience = GATE_SECONDS

    def _lock(self, suffix: str) -> filelock.BaseFileLock:
        return filelock.FileLock(self.folder.parent / f".{self.folder.name}{suffix}.lock")

    @contextlib.contextmanager
    def gate(self) -> Iterator[None]:
        """Let one process at a time begin or end writing a run; a matter of milliseconds."""
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.works = _locks_work(Path(self._gate.lock_file))
            if self.works:
                self._gate.acquire(timeout=GATE_SECONDS)
        except filelock.Timeout:
            raise UserError(
                f"{self.folder}: other processes have been starting for {GATE_SECONDS:.0f} s; "
                "try again"
            ) from None
        except OSError as error:
            raise unwritable(self.folder, error) from None
        try:
            yield
        finally:
            self._gate.release()

    def acquire(self) -> None:
        """Take hold of the run; only inside the gate."""
        if not self.works:
            return
        if not _take(self._own):
            raise self._in_use([self._this()])
        if busy := self._busy(tidy=True):
            self._own.release()
            raise self._in_use(busy)

    def check(self) -> None:
        """Check, without writing anything, that no other process has the run."""
        if not Path(self._gate.lock_file).exists():
            return  # nobody ever had
        with self.gate():
            if not self.works:
                return
            if busy := [self._this()] if _held(self._own) else self._busy(tidy=False):
                raise self._in_use(busy)

    def _this(self) -> str:
        return f"shard {_shown(self.shard)} of it" if self.shard else "it"

    def _in_use(self, busy: list[str]) -> UserError:
        return UserError(
            f"{self.folder}: in use by another tiltcli process, which is writing "
            f"{listing(busy, 6)}; wait for it, or give this run another name"
        )

    def _busy(self, *, tidy: bool) -> list[str]:
        """What of the run others write: its shards; for a shard, all of it."""
        if self.shard is None:
            return self._live_shards(tidy=tidy)
        return ["all of it"] if _held(self._main) else []

    @contextlib.contextmanager
    def turn(self) -> Iterator[bool]:
        """Let one shard at a time commit; gives whether nobody else can write the run now."""
        # One that was stopped in the middle of a commit keeps nobody from writing parts of his own.
        held = self.works
        if self.works and self.shard is not None:
            try:
                self._commits.acquire(timeout=self._patience)
                self._patience = GATE_SECONDS
            except (filelock.Timeout, OSError):
                held, self._patience = False, 0.0
        try:
            yield held
        finally:
            self._commits.release()

    def _live_shards(self, *, tidy: bool) -> list[str]:
        """Shards being written; the lock files of the others may be removed."""
        busy = []
        for path in sorted(self.folder.parent.glob(f".{self.folder.name}~*.lock")):
            name = path.name.removeprefix(f".{self.folder.name}~").removesuffix(".lock")
            if name in ("gate", "commit"):
                continue
            lock = filelock.FileLock(path)
            if not _take(lock):
                busy.append(f"shard {_shown(name)}")
                continue
            # Safe, for shards open these files inside the gate only.
            if tidy:
                with contextlib.suppress(OSError):
                    path.unlink()
            lock.release()
        return busy

    def release(self) -> None:
        """Let go of the run."""
        self._own.release()


def _take(lock: filelock.BaseFileLock) -> bool:
    with contextlib.suppress(filelock.Timeout):
        lock.acquire(timeout=0)
    return lock.is_locked


def _held(lock: filelock.BaseFileLock) -> bool:
    """Whether another process has a lock; its file is not made for it."""
    if not Path(lock.lock_file).exists():
        return False
    taken = _take(lock)
    lock.release()
    return not taken


def _shown(name: str | None) -> str:
    return (name or "").removeprefix("s").replace("of", "/")


def _locks_work(path: Path) -> bool:
    """Whether the file system knows locks."""
    try:
        import fcntl
    except ImportError:  # Windows has locks of its own, always
        return True
    # As filelock opens it: never truncated, for it may be held.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _ABSENT
    finally:
        os.close(descriptor)
    return True
