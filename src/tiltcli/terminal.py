"""What a stream may be sent: one rule for every layer that writes to a terminal."""

from __future__ import annotations

import os
from typing import TextIO


def unadorned() -> bool:
    """Whether the user wants text only, on a terminal too: NO_COLOR, --no-color or TERM=dumb."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def plain(stream: TextIO) -> bool:
    """Whether a stream gets text only: it is no terminal, or the user wants it so."""
    return unadorned() or not stream.isatty()
