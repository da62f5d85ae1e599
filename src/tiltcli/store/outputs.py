"""Files that a user names for a command to write: figures, reports, grids."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

from tiltcli.errors import RunError
from tiltcli.store.parts import unwritable, write_whole

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
