"""In this very process, one task after the other: a debugger and a profiler see all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, TypeVar

from tiltcli.execution.executors.protocol import Done, Result, Stopped, Task, Work

T = TypeVar("T")


def run_in_process(
    work: Work[Task, Result],
    tasks: Iterable[Task],
    stopped: Stopped,
    report: Callable[[Task, Any], None],
) -> Iterator[Done[Task, Result]]:
    """Run tasks in the caller's thread; what the work raises goes through to the caller."""
    for task in tasks:
        if stopped():
            return
        yield Done(task, work(task, stopped, partial(report, task)), None)


class Immediate(Executor):
    """An executor that has run what is submitted to it when `submit` returns."""

    def submit(self, work: Callable[..., T], /, *arguments: Any, **named: Any) -> Future[T]:
        """Call a function here and now."""
        future: Future[T] = Future()
        try:
            future.set_result(work(*arguments, **named))
        except Exception as error:
            future.set_exception(error)
        return future
