"""What a sweep shows while it runs: a live display on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tiltcli.cli.app import say
from tiltcli.cli.console import plain
from tiltcli.cli.signals import STOPPING, Stop

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from tiltcli.execution.progress import Progress

LINE_SECONDS = 10.0
FRAME_SECONDS = 0.1
_NAMES = {"val_accuracy": "validation accuracy", "train_accuracy": "training accuracy"}


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


def describe(progress: Progress, seconds: float) -> str:
    """One line: jobs, outcomes, speed."""
    rate = progress.steps / seconds if seconds > 0 else 0.0
    parts = [f"{progress.done}/{progress.total} jobs", f"{progress.running} running"]
    parts += [f"{progress.ended[outcome]} {outcome}" for outcome in ("diverged", "failed")]
    return ", ".join([*parts, f"{rate:,.0f} steps/s"])


def time_left(progress: Progress) -> str:
    """Time until the end at the speed of late, or nothing if that is not known."""
    left = progress.seconds_left()
    return f"{clock(left)} left" if left else ""


def clock(seconds: float) -> str:
    """Duration as people say it."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def standings(progress: Progress, most: int = 1000) -> list[str]:
    """Return static against the best dynamical cell, a line per width; none unless there are both.

    Args:
        progress: of the sweep.
        most: lines at most.

    """
    from tiltcli.evaluation.texts import spread

    found = progress.standings()
    if not any(static.n and best for _, static, best in found):
        return []
    cells = max(len(standing.cells) for standing in list(progress.widths.values()))
    which = f"best of {cells} cells" if cells > 1 else "dynamical"
    lines = [
        f"{_NAMES[progress.metric]}: mean ± 95% interval (seeds)",
        f" width  {'static':<18}  {which:<18}  cell",
    ]
    for width, static, best in found[:most]:
        cell = "–" if best is None else f"A {best[0][0]:g}, T {best[0][1]}"
        dynamical = "–" if best is None else spread(best[1])
        lines.append(f"{width:>6}  {spread(static):<18}  {dynamical:<18}  {cell}")
    if len(found) > most:
        lines.append(f"     …  and {len(found) - most} more widths")
    return lines


def _lines(progress: Progress, name: str, stop: Stop, ended: threading.Event) -> None:
    started = time.monotonic()
    while not ended.wait(LINE_SECONDS):
        seconds = time.monotonic() - started
        left = time_left(progress)
        say(f"{name}: {describe(progress, seconds)}{', ' if left else ''}{left}")


def _live(progress: Progress, name: str, stop: Stop, ended: threading.Event) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True, highlight=False)
    started = time.monotonic()
    with Live(console=console, transient=True, auto_refresh=False, redirect_stdout=False) as live:
        stop.live = True
        while not ended.wait(FRAME_SECONDS):
            seconds = time.monotonic() - started
            live.update(_frame(progress, name, seconds, stop, console), refresh=True)
        stop.live = False


def _frame(
    progress: Progress, name: str, seconds: float, stop: Stop, console: Console
) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    to_come = progress.seconds_left()
    share = 0.0 if to_come is None else seconds / max(seconds + to_come, 1e-9)
    # A job's last steps are counted before it is written: all but done is not done.
    share = share if progress.done == progress.total else min(share, 0.99)
    head = Table.grid(padding=(0, 2, 0, 0))
    bar = ProgressBar(
        total=1.0,
        completed=share,
        width=min(40, max(10, console.width // 4)),
        complete_style="cyan",
        finished_style="cyan",
    )
    left = time_left(progress) if progress.total else "checking data and network"
    cut = name if len(name) <= 30 else name[:29] + "…"
    head.add_row(Text(cut, style="bold"), bar, f"{share:.0%}", left)
    parts: list[RenderableType] = [head]
    if progress.total:
        style = "red" if progress.ended["failed"] else ""
        parts.append(Text(describe(progress, seconds), style=style, no_wrap=True))
    if table := standings(progress, most=max(1, console.height - 6)):
        parts += [
            Text(line, no_wrap=True, style="dim" if i < 2 else "") for i, line in enumerate(table)
        ]
    if stop.event.is_set():
        parts.append(Text(STOPPING, style="yellow", no_wrap=True))
    return Group(*parts)
