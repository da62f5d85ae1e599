"""What all executors share: how a task ends, and what became of a worker that did not come back.

Work is a function of three: the task, `stopped()` that turns true when it should end early, and
`report(amount)` that tells, in whatever form, how far it is. A worker that dies (killed, out of
memory, a crash in native code) costs its task an attempt; after `RETRIES` more the task ends with
`WorkerLost`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

Stopped: TypeAlias = Callable[[], bool]
Report: TypeAlias = Callable[[Any], None]
Work: TypeAlias = Callable[[Task, Stopped, Report], Result]

RETRIES = 2
"""Times a task runs again after its worker was lost."""


@dataclass(frozen=True)
class Done(Generic[Task, Result]):
    """A task that ended: with its result, or with the exception it raised."""

    task: Task
    result: Result | None
    error: BaseException | None


class WorkerLost(Exception):
    """The worker of a task died, as often as it was tried."""


class WorkerError(Exception):
    """A task raised in another process; the text is its traceback there."""


def lost(times: int, last: str) -> WorkerLost:
    """Say how often a task lost its worker, and what is known of the last one."""
    often = "once" if times == 1 else "twice" if times == 2 else f"{times} times"
    return WorkerLost(f"lost its worker {often}; the last, {last}")


def ending(exitcode: int | None) -> str:
    """Say how a process ended, from its exit code as `multiprocessing` gives it."""
    if exitcode is None:
        return "ended in an unknown way"
    if exitcode >= 0:
        return f"ended with exit code {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    hint = " (out of memory: try fewer --workers; or from outside)" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"
