"""How far a sweep is, in one line: on a terminal, or as a bar in a notebook."""

from __future__ import annotations

import contextvars
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

from tiltcli.errors import plain
from tiltcli.execution.progress import Pace, Progress

FRAME_SECONDS, LINE_SECONDS = 0.2, 10.0


@contextmanager
def metered(progress: Progress, name: str, wanted: bool | None) -> Iterator[None]:
    """Show a sweep's progress while the body runs."""
    notebook, terminal = _in_notebook(), not plain(sys.stderr)
    if not (notebook or terminal or wanted) or wanted is False:
        yield
        return
    every = FRAME_SECONDS if notebook or terminal else LINE_SECONDS
    show = _cell() if notebook else _rewritten if terminal else _line
    pace, started, ended = Pace(progress), time.monotonic(), threading.Event()

    def tell() -> None:
        said = pace.line(time.monotonic() - started)
        show(f"{name}: {said}", progress.done / max(progress.total, 1))

    def run() -> None:
        while not ended.wait(every):
            tell()

    # A notebook's outputs go to the cell that the context names.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        tell()
        if terminal and not notebook:
            sys.stderr.write("\n")


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this: IPython on a terminal has none."""
    shell = sys.modules.get("IPython")
    return shell is not None and hasattr(shell.get_ipython(), "kernel")


def _line(text: str, share: float) -> None:
    sys.stderr.write(text + "\n")


def _rewritten(text: str, share: float) -> None:
    sys.stderr.write(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}")
    sys.stderr.flush()


def _cell() -> Callable[[str, float], None]:
    """Return what writes into an output of the notebook's cell, in place of what it had."""
    from IPython import display

    show: Callable[..., Any] = display.display
    html: Callable[[str], Any] = display.HTML

    def page(text: str, share: float) -> Any:
        return html(f'<progress value="{share:.3f}" max="1"></progress> {escape(text)}')

    handle = show(page("", 0.0), display_id=True)
    return lambda text, share: handle.update(page(text, share))
