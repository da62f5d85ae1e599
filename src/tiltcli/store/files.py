"""Files that are written whole: those of a run, and those that a user names for a command to write.

What is written is on the disk itself before it has its name, and the name is before it counts.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from tiltcli.errors import RunError


class Unwritable(RunError):
    """A run's folder takes no more: the sweep ends; what is finished is kept."""


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


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_output(path: Path) -> None:
    """Check, before the work, that a plain file, not through a link, can be written there."""
    try:
        kind = stat.S_IFMT(path.lstat().st_mode)
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise RunError(f"{path}: cannot be written: there is no folder {path.parent}") from None
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from None
    else:
        if kind != stat.S_IFREG:
            what = _KINDS.get(kind, "no plain file")
            raise RunError(f"{path}: is {what}; allowed: a file that is replaced, or a new one")


def output_folder(path: Path) -> Path:
    """Return a folder for files to write, made if need be; not a link, which leads elsewhere."""
    if path.is_symlink():
        raise RunError(f"{path}: is a link; allowed: a folder, or nothing")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from None
    return path


def write_output(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole, in place of a plain file or of nothing."""
    check_output(path)
    write_whole(path, write)
