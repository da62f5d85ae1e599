"""How much memory there is, and how much of it a file may ask for before it is believed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tiltcli.errors import UserError

UNKNOWN_MEMORY = 16 << 30  # where the system does not say
_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def machine_memory() -> int:
    """Return the bytes of memory that this process may have: the machine's, or its control group's.

    A batch system or a container gives its processes a part of the machine. The limit may stand at
    the process's own group or at any above it, in the files of version 2 or of version 1.
    """
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        memory = UNKNOWN_MEMORY
    for file in _limit_files():
        with contextlib.suppress(OSError, ValueError):  # absent, or "max"
            memory = min(memory, int(file.read_text(encoding="ascii")))
    return memory


def _limit_files() -> Iterator[Path]:
    """Files that may hold a limit: those of the group there is a path to, and of all above it."""
    try:
        lines = _OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    # In a container the path may be the host's, and what is mounted the container's own group.
    for line in ["0::/", "0:memory:/", *lines]:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers == "":
            root, name = _CONTROL_GROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = _CONTROL_GROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = PurePosixPath(path.lstrip("/"))
        for place in (group, *group.parents):
            yield root / place / name


def most_bytes() -> int:
    """Bytes that the arrays of one data file may take: half of the memory there is."""
    return machine_memory() // 2


def check_bytes(path: Path, needed: int, what: str) -> None:
    """Refuse what needs more than `most_bytes` allows."""
    if needed > (most := most_bytes()):
        raise UserError(
            f"{path}: {what} would take {needed / 2**30:,.1f} GiB; allowed: half of this "
            f"machine's memory, {most / 2**30:,.1f} GiB"
        )
