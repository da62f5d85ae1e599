"""The files of a run: numbered parts, each a group of finished jobs.

A part is two files of one name, `metrics/N-M.parquet` and `jobs/N-M.parquet`, written in this
order: the second one makes the part count. Small parts are merged into one named by the whole
range, which then stands for those inside its range. So whatever moment a writer is killed at, the
live parts hold every counted job exactly once, and anything else is litter.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tiltcli.records import UserError

_NAME = re.compile(r"(\d{6,})-(\d{6,})\.parquet")


@dataclass(frozen=True, order=True)
class Part:
    """A part by its range of numbers."""

    first: int
    last: int

    @property
    def filename(self) -> str:
        """Name of both its files."""
        return f"{self.first:06d}-{self.last:06d}.parquet"

    def within(self, other: Part) -> bool:
        """Whether the other part, a merged one, stands for this one."""
        return self != other and other.first <= self.first and self.last <= other.last


def found(folder: Path) -> list[Part]:
    """Parts that have a file in a folder, in order."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(Part(int(m[1]), int(m[2])) for n in names if (m := _NAME.fullmatch(n)))


def live(run: Path) -> list[Part]:
    """Parts that count: those whose jobs file is there and that no merged part stands for."""
    parts = found(run / "jobs")
    kept: list[Part] = []
    for part in sorted(parts, key=lambda p: (p.first, -p.last)):
        if not (kept and part.within(kept[-1])):
            kept.append(part)
    return kept


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name, then give it its own.

    Raises:
        UserError: if the disk is full or the folder cannot be written to.

    """
    # The dot keeps unfinished files out of everybody's *.parquet.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _unwritable(path, error) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _unwritable(path: Path, error: OSError) -> UserError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    # Arrow wraps the system's error in its own, and the number with it.
    full = full or "No space left" in str(error) or "quota" in str(error).lower()
    if full:
        return UserError(
            f"{path}: the disk is full; make room and run the same command again: "
            "finished jobs are kept"
        )
    reason = error.strerror or str(error)
    return UserError(f"{path}: cannot be written: {reason}")


def sweep_litter(run: Path) -> list[str]:
    """Remove what a killed writer left: call only while holding the run's lock.

    Returns:
        names of the files removed.

    """
    kept = {part.filename for part in live(run)}
    removed = []
    for folder in (run, run / "jobs", run / "metrics", run / "probes"):
        if not folder.is_dir():
            continue
        for path in sorted(folder.iterdir()):
            stray = path.name.startswith(".") and path.name.endswith(".tmp")
            dead = folder.name in ("jobs", "metrics") and _NAME.fullmatch(path.name) is not None
            if path.is_file() and (stray or (dead and path.name not in kept)):
                path.unlink()
                removed.append(f"{folder.name}/{path.name}")
    return removed
