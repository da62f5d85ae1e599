"""Consoles for tables and displays: colours and cursor moves only where a terminal wants them."""

from __future__ import annotations

import codecs
import os
import sys
from typing import TYPE_CHECKING, TextIO

from tiltcli.terminal import plain, unadorned

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 160
_SPELLED = {
    "±": "+-",
    "−": "-",
    "–": "-",
    "…": "...",
    "→": "->",
    "≥": ">=",
    "×": "x",
    "λ": "lambda",
}


def set_up_streams() -> None:
    """Make what was asked for hold for the libraries too, and unencodable characters harmless."""
    if unadorned():
        os.environ["TTY_COMPATIBLE"] = "0"  # else rich, in help pages, still writes bold
    codecs.register_error("tiltcli", _spelled)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure") and not utf8(stream):
            stream.reconfigure(errors="tiltcli")


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """Write what an encoding lacks in ASCII."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(_SPELLED.get(character, "?") for character in bad), error.end


def utf8(stream: TextIO) -> bool:
    """Whether a stream can write any character."""
    return (stream.encoding or "").lower().replace("-", "").startswith("utf")


def output() -> Console:
    """Console on stdout; wide where it is not a terminal, so that pipes get whole rows."""
    from rich.console import Console

    wide = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(
        no_color=plain(sys.stdout),
        highlight=False,
        width=PIPE_WIDTH if wide else None,
        force_terminal=False if plain(sys.stdout) else None,
    )


__all__ = ["output", "plain", "set_up_streams", "utf8"]
