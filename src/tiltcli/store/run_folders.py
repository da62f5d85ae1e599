"""Runs as folders: removing one, renaming one; never while somebody writes it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from tiltcli.errors import UserError
from tiltcli.grid import kept_grids
from tiltcli.grid.sweep import NAME
from tiltcli.store.locks import RunLock
from tiltcli.store.parts import write_text

_NAMED = re.compile(r'^name = ".*"$', re.MULTILINE)


def remove_run(folder: Path) -> None:
    """Remove a run that no other process writes."""
    with _held(folder):
        # First out of sight, in one step: a kill leaves no half of a run.
        gone = folder.parent / f".{folder.name}~removed"
        if gone.exists():
            shutil.rmtree(gone)
        shutil.rmtree(folder.rename(gone))
    _forget_locks(folder)


def rename_run(folder: Path, name: str) -> Path:
    """Give a run that no other process writes a free name; return its new folder."""
    if not NAME.fullmatch(name):
        raise UserError(
            f"new name: got {name[:80]!r}; allowed: letters, digits, . _ + and -, at most 100, the "
            "first a letter or digit"
        )
    target = folder.parent / name
    if target.exists():
        raise UserError(f"new name: {target} is there already")
    with _held(folder):
        # A grid that is swept again from the run's own file goes on in the run.
        for grid in kept_grids(folder):
            text = _NAMED.sub(f'name = "{name}"', grid.read_text(encoding="utf-8"), count=1)
            write_text(grid, text)
        folder.rename(target)
    _forget_locks(folder)
    return target


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    if folder.is_symlink():
        raise UserError(f"{folder}: is a link; name the folder that it leads to")
    lock = RunLock(folder)
    with lock.gate():
        lock.acquire()
        try:
            yield
        except OSError as error:
            raise UserError(f"{folder}: {error.strerror or error}") from None
        finally:
            lock.release()


def _forget_locks(folder: Path) -> None:
    for path in folder.parent.glob(f".{escape(folder.name)}*.lock"):
        if path.name.removeprefix(f".{folder.name}")[0] in "~.":
            with suppress(OSError):
                path.unlink()
