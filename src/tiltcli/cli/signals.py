"""Ctrl-C and SIGTERM during a sweep: acknowledged at once, clean; the second one forces."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import Any

from tiltcli.cli.app import INTERRUPTED

STOPPING = "stopping; finished jobs are kept, the same command resumes (Ctrl-C forces)"
_SHOW_CURSOR = b"\x1b[?25h"


class Stop:
    """Stop request of a sweep, set by a signal."""

    def __init__(self) -> None:
        self.event = threading.Event()
        # Whether a display that redraws itself is up. It says `STOPPING` itself, within a tenth of
        # a second; a line written into it would be torn.
        self.live = False

    def listen(self) -> None:
        """Take over SIGINT and SIGTERM."""
        signal.signal(signal.SIGINT, self._handle)
        signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, number: int, _: Any) -> None:
        if self.event.is_set():
            if self.live:
                _write(_SHOW_CURSOR + b"\n")
            os._exit(INTERRUPTED)
        self.event.set()
        if not self.live:
            _write(f"\n{STOPPING}\n".encode())


def _write(data: bytes) -> None:
    # Not through sys.stderr: the signal may have come in the middle of a write to it.
    with contextlib.suppress(OSError):  # nobody reads it any more
        os.write(sys.stderr.fileno(), data)
