"""The standard streams: closed ones, readers that go, disks that are full, tables on a terminal."""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO, cast

from tiltcli.errors import UserError, plain, unadorned

if TYPE_CHECKING:
    from rich.console import Console

BROKEN = 141
"""Exit code where the reader of stdout has gone: 128 and SIGPIPE, as of other tools in a shell."""

PIPE_WIDTH = 160


class Lasting:
    """A standard stream that may lose its reader or its room.

    What goes to stderr then is lost, and the work goes on; without stdout, the one that is needed,
    a command has no more to do.
    """

    def __init__(self, stream: TextIO, needed: bool) -> None:
        self._stream = stream
        self._needed = needed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write as a stream does."""
        return self._tried(lambda: self._stream.write(text)) or 0

    def flush(self) -> None:
        """Write what is held back."""
        self._tried(self._stream.flush)

    def _tried(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except OSError as error:
            # What is held back still would be tried again at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            if not self._needed:
                return None
            if isinstance(error, BrokenPipeError):
                raise SystemExit(BROKEN) from None
            raise UserError(f"stdout: cannot be written: {error.strerror or error}") from None


def outlast() -> None:
    """Let the process outlive its streams; one that was closed from the start takes all."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes this number, which a file of ours would have had
    sys.stdin = sys.stdin or pathlib.Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or pathlib.Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
        setattr(sys, name, cast(TextIO, Lasting(stream, name == "stdout")))


def set_up_streams() -> None:
    """Make what was asked for hold for the libraries too, and unencodable characters harmless."""
    if unadorned():
        os.environ["TTY_COMPATIBLE"] = "0"  # else rich, in help pages, still writes bold
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


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
