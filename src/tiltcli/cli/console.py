"""Consoles for tables on stdout: colours only where a terminal wants them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def output() -> Console:
    """Console on stdout; wide where it is not a terminal, so that pipes get whole rows."""
    from rich.console import Console

    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    terminal = sys.stdout.isatty()
    width = None if terminal or "COLUMNS" in os.environ else 160
    return Console(no_color=plain, highlight=False, width=width, force_terminal=None)
