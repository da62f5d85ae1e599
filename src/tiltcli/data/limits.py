"""How much memory a file may ask for: what it claims is checked before it is believed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from tiltcli.errors import UserError

UNKNOWN_MEMORY = 16 << 30  # where the system does not say
_CONTROL_GROUP = Path("/sys/fs/cgroup/memory.max")


def most_bytes() -> int:
    """Bytes that the arrays of one data file may take: half of the machine's memory."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        memory = UNKNOWN_MEMORY
    with contextlib.suppress(OSError, ValueError):  # absent, or "max"
        memory = min(memory, int(_CONTROL_GROUP.read_text(encoding="ascii")))
    return memory // 2


def check_bytes(path: Path, needed: int, what: str) -> None:
    """Refuse what would not fit.

    Raises:
        UserError: if more is needed than `most_bytes` allows.

    """
    if needed > (most := most_bytes()):
        raise UserError(
            f"{path}: {what} would take {needed / 2**30:,.1f} GiB; allowed: half of this "
            f"machine's memory, {most / 2**30:,.1f} GiB"
        )
