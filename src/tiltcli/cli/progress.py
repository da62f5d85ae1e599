"""The live display of a sweep: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tiltcli.cli.app import say

if TYPE_CHECKING:
    from tiltcli.progress import Progress

LINE_SECONDS = 10.0


@contextlib.contextmanager
def display(progress: Progress, name: str, quiet: bool) -> Iterator[None]:
    """Show a sweep's progress on stderr while the body runs."""
    if quiet:
        yield
        return
    ended = threading.Event()
    fancy = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    target = _bar if fancy else _lines
    thread = threading.Thread(target=target, args=(progress, name, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def describe(progress: Progress, seconds: float) -> str:
    """One line: jobs, outcomes, speed, time left."""
    rate = progress.steps / seconds if seconds > 0 else 0.0
    parts = [f"{progress.done}/{progress.total} jobs"]
    parts += [f"{progress.ended[o]} {o}" for o in ("diverged", "failed") if progress.ended[o]]
    parts.append(f"{rate:,.0f} steps/s")
    left = progress.total_work - progress.work
    if progress.work > 0 and left > 0:
        parts.append(f"{clock(left / progress.work * seconds)} left")
    return ", ".join(parts)


def clock(seconds: float) -> str:
    """Duration as people say it."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _lines(progress: Progress, name: str, ended: threading.Event) -> None:
    started = time.monotonic()
    while not ended.wait(LINE_SECONDS):
        say(f"{name}: {describe(progress, time.monotonic() - started)}")


def _bar(progress: Progress, name: str, ended: threading.Event) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True, no_color=bool(os.environ.get("NO_COLOR")))
    started = time.monotonic()
    with Bar(
        TextColumn("{task.fields[name]}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[text]}"),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as bar:
        task = bar.add_task("", total=1, name=name, text="starting")
        while not ended.wait(0.1):
            seconds = time.monotonic() - started
            total = max(progress.total_work, 1.0)
            bar.update(
                task,
                total=total,
                completed=min(progress.work, total),
                text=describe(progress, seconds),
            )
