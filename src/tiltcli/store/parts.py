"""The files of a run: numbered parts, each a group of finished jobs.

A part is a file of one name in each table's folder: `metrics/000007.parquet` and the like, and at
last `jobs/000007.parquet`, which makes its jobs count. Each writer of a run has parts of its own:
the client that writes alone `000007.parquet`, a shard `s3of16.000007.parquet`.

A row never moves from one part to another and no part goes away, so that whoever lists
`jobs/*.parquet`, and then reads what the list names, gets every committed job, once: at whatever
moment, and whatever moment a writer was killed at. Files are few all the same, because the last
part of a writer grows (`tiltcli.store.growing`) until it is large. Writers commit in turn and look
at each other's parts first, so that no job is written twice. Only where a file system has no locks
can two parts have one job; `tiltcli.store.job_index` says which of its rows counts.

A commit is on the disk itself before it counts: each file is synchronised before it gets its name,
and each folder after. So a finished job outlives a power cut, as a transaction of SQLite does, and
so do the jobs that stood in the part before. It costs some hundredths of a second a commit.

Earlier versions called a part by a range, `N-M`; such parts are read, and never grow.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from tiltcli.errors import RunError

_NAME = re.compile(r"(?:([A-Za-z][A-Za-z0-9_-]*)\.)?(\d{6,})(?:-\d{6,})?\.parquet")

Signature = tuple[int, int, int]
"""What tells whether a file is still the one that was looked at."""


class Unwritable(RunError):
    """A run's folder takes no more: the sweep ends; what is finished is kept."""


def part_name(writer: str, number: int) -> str:
    """Name of each file of a part."""
    return f"{writer}.{number:06d}.parquet" if writer else f"{number:06d}.parquet"


def parse(name: str) -> tuple[str, int] | None:
    """Writer and number of a part by the name of its files; None for what is no part."""
    found = _NAME.fullmatch(name)
    return (found[1] or "", int(found[2])) if found else None


def writer_name(base: str) -> str:
    """Return a name that no other writer has, on any machine; odd characters of `base` become _."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", base)[:60]
    # Not a process id alone: they recur, and another machine has the same.
    return f"{plain if plain[:1].isalpha() else 'w' + plain}-{os.urandom(4).hex()}"


def live(run: Path) -> list[str]:
    """Names of the parts that count, in order."""
    try:
        return sorted(name for name in os.listdir(run / "jobs") if parse(name))
    except FileNotFoundError:
        return []


def signature(path: Path) -> Signature | None:
    """Signature of a file; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name, then give it its own; both are on the disk then."""
    # The dot keeps unfinished files out of everybody's *.parquet.
    # Nobody can have put a link at a random name; and it fits where a long name does.
    temporary = path.with_name(f".{path.name[:40]}.{os.urandom(4).hex()}.tmp")
    try:
        with writing(path):
            write(temporary)
            adopt(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text whole; see `write_whole`."""
    write_whole(path, lambda to: to.write_text(text, encoding="utf-8"))


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Let an error of the system say that the file cannot be written; raises `Unwritable`."""
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error


def adopt(temporary: Path, path: Path) -> None:
    """Give a finished file its name; it and its name are on the disk then."""
    synchronise(temporary)
    os.replace(temporary, path)
    synchronise(path.parent)


def synchronise(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk itself."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        if path.is_dir():
            return  # Windows, where folders cannot be opened
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot; they have other promises.
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    finally:
        os.close(descriptor)


def unwritable(path: Path, error: OSError | ValueError) -> Unwritable:
    """Say why a file could not be written, and what to do."""
    # Arrow wraps the system's error in its own, and the number with it.
    full = any(said in str(error) for said in ("No space left", "uota exceeded"))
    if full or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return Unwritable(
            f"{path}: the disk is full; make room and run the same command again: "
            "finished jobs are kept"
        )
    return Unwritable(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}")
