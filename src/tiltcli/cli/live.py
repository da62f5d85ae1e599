"""What a sweep shows while it runs, and how it is stopped.

A live display on a terminal, a line now and then elsewhere. Ctrl-C and SIGTERM are acknowledged at
once, and end it cleanly; the second one forces.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tiltcli.cli.options import INTERRUPTED, say
from tiltcli.cli.standings import standings
from tiltcli.errors import plain
from tiltcli.execution.progress import Pace, time_left

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from tiltcli.execution.progress import Gathered, Progress

STOPPING = "stopping; finished jobs are kept, the same command resumes (Ctrl-C forces)"
_SHOW_CURSOR = b"\x1b[?25h"

LINE_SECONDS = 10.0
FRAME_SECONDS = 0.1


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


@contextlib.contextmanager
def display(progress: Progress, name: str, stop: Stop, quiet: bool) -> Iterator[None]:
    """Show a sweep's progress on stderr while the body runs."""
    if quiet:
        yield
        return
    ended = threading.Event()
    target = _lines if plain(sys.stderr) else _live
    thread = threading.Thread(target=target, args=(progress, name, stop, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _lines(progress: Progress, name: str, stop: Stop, ended: threading.Event) -> None:
    started, pace = time.monotonic(), Pace(progress)
    while not ended.wait(LINE_SECONDS):
        say(f"{name}: {pace.line(time.monotonic() - started)}")


def _live(progress: Progress, name: str, stop: Stop, ended: threading.Event) -> None:
    from rich.console import Console
    from rich.live import Live

    screen = Screen(progress, name, stop, Console(stderr=True, highlight=False))
    started = time.monotonic()
    with Live(
        console=screen.console, transient=True, auto_refresh=False, redirect_stdout=False
    ) as live:
        stop.live = True
        while not ended.wait(FRAME_SECONDS):
            live.update(screen.frame(time.monotonic() - started), refresh=True)
        stop.live = False


class Screen:
    """What a terminal shows while a sweep runs, as wide as the terminal is."""

    def __init__(self, progress: Progress, name: str, stop: Stop, console: Console) -> None:
        self.console = console
        self._progress, self._name, self._stop = progress, name, stop
        self._pace = Pace(progress)
        self._told: tuple[Gathered | None, int, list[str]] = (None, 0, [])

    def frame(self, seconds: float) -> RenderableType:
        """Return the picture of the moment so many seconds after the sweep began."""
        from rich.console import Group
        from rich.text import Text

        progress = self._progress
        parts: list[RenderableType] = [self._head(seconds)]
        if progress.total:
            style = "red" if progress.ended["failed"] else ""
            parts.append(Text(self._pace.describe(seconds), style=style, no_wrap=True))
        parts += [
            Text(line, no_wrap=True, style="dim" if i < 2 else "")
            for i, line in enumerate(self._table())
        ]
        if self._stop.event.is_set():
            parts.append(Text(STOPPING, style="yellow", no_wrap=True))
        return Group(*parts)

    def _head(self, seconds: float) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        progress, longest = self._progress, max(self.console.width // 3, 10)
        to_come = progress.seconds_left()
        share = 0.0 if to_come is None else seconds / max(seconds + to_come, 1e-9)
        # A job's last steps are counted before it is written: all but done is not done.
        share = share if progress.done == progress.total else min(share, 0.99)
        head = Table.grid(padding=(0, 2, 0, 0), expand=True)
        for ratio in (None, 1, None, None):  # the bar takes what is left
            head.add_column(ratio=ratio, no_wrap=True)
        bar = ProgressBar(total=1.0, completed=share, complete_style="cyan", finished_style="cyan")
        left = time_left(progress) if progress.total else "checking data and network"
        name = self._name
        cut = name if len(name) <= longest else name[: longest - 1] + "…"
        head.add_row(Text(cut, style="bold"), bar, f"{share:.0%}", left)
        return head

    def _table(self) -> list[str]:
        """Lines of the table of groups, written anew only when there is another."""
        results, most = self._progress.results, max(1, self.console.height - 6)
        found = results.cells() if results is not None else None
        if found is not None and (found is not self._told[0] or most != self._told[1]):
            self._told = found, most, standings(found, most, ripe=True)
        return self._told[2]
