"""The files of a run: numbered parts, each a group of finished jobs.

A part is a file of one name in each table's folder: `metrics/NAME.parquet` and the like, and at
last `jobs/NAME.parquet`, which makes the part count. `NAME` is `N-M`, a range of numbers, for the
client that writes a run alone, and `WRITER.N-M` for a shard or a worker: every writer numbers its
own parts, so that no two writers ever write the same file.

Small parts of one writer are merged into one named by the whole range, which then stands for those
inside its range. So whatever moment a writer is killed at, the live parts hold every counted job,
and anything else is litter. A job may stand in several parts, because two shards did it or
a gathering of parts was cut short: `tiltcli.store.deduplicate` says which of its rows counts.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tiltcli.errors import UserError

_NAME = re.compile(r"(?:([A-Za-z][A-Za-z0-9_-]*)\.)?(\d{6,})-(\d{6,})\.parquet")


class Unwritable(UserError):
    """A run's folder takes no more: the sweep ends; what is finished is kept."""


@dataclass(frozen=True, order=True)
class Part:
    """A part by its writer (empty: the client that writes alone) and its range of numbers."""

    writer: str
    first: int
    last: int

    @property
    def filename(self) -> str:
        """Name of each of its files."""
        prefix = f"{self.writer}." if self.writer else ""
        return f"{prefix}{self.first:06d}-{self.last:06d}.parquet"

    def within(self, other: Part) -> bool:
        """Whether the other part, a merged one of the same writer, stands for this one."""
        return (
            self != other
            and self.writer == other.writer
            and other.first <= self.first
            and self.last <= other.last
        )


def writer_name(base: str) -> str:
    """Return a name for a writer that no other has, on any machine, and that begins with `base`.

    Characters that have no place in a file's name become `_`.
    """
    plain = re.sub(r"[^A-Za-z0-9_]", "_", base)[:60]
    # Not a process id alone: they recur, and another machine has the same.
    return f"{plain if plain[:1].isalpha() else 'w' + plain}-{os.urandom(4).hex()}"


def parse(name: str) -> Part | None:
    """Part that a file belongs to, by the file's name."""
    found = _NAME.fullmatch(name)
    return Part(found[1] or "", int(found[2]), int(found[3])) if found else None


def found(folder: Path) -> list[Part]:
    """Parts that have a file in a folder, in order."""
    # A listing that runs while another process merges can miss both the old files and the new
    # one; two that agree cannot, for a merged file is there before the first old one goes.
    names = _names(folder)
    for _ in range(20):
        again = _names(folder)
        if again == names:
            break
        names = again
    return sorted(part for name in names if (part := parse(name)))


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def live(run: Path) -> list[Part]:
    """Parts that count: those whose jobs file is there and that no merged part stands for."""
    kept: list[Part] = []
    for part in sorted(found(run / "jobs"), key=lambda p: (p.writer, p.first, -p.last)):
        if not (kept and part.within(kept[-1])):
            kept.append(part)
    return kept


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name, then give it its own.

    Raises:
        Unwritable: if the disk is full or the folder cannot be written to.

    """  # noqa: DOC501, DOC502 - raised as `unwritable(…)`
    # The dot keeps unfinished files out of everybody's *.parquet.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise unwritable(path, error) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def unwritable(path: Path, error: OSError) -> Unwritable:
    """Say why a file could not be written, and what to do."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    # Arrow wraps the system's error in its own, and the number with it.
    full = full or any(s in str(error) for s in ("No space left", "uota exceeded"))
    if full:
        return Unwritable(
            f"{path}: the disk is full; make room and run the same command again: "
            "finished jobs are kept"
        )
    reason = error.strerror or str(error)
    return Unwritable(f"{path}: cannot be written: {reason}")
