"""Running tasks in parallel: threads for kernels that release the GIL, processes for the rest.

Knows nothing of training. Both take tasks as they are needed, so that memory does not grow with
the number of tasks, and give results in the order they come.
"""

from __future__ import annotations

import itertools
import os
import queue
import signal
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Done(Generic[Task, Result]):
    """A task that ended: with its result, or with the exception it raised."""

    task: Task
    result: Result | None
    error: BaseException | None


def cores() -> int:
    """Processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_threads(
    work: Callable[[Task], Result], tasks: Iterable[Task], workers: int
) -> Iterator[Done[Task, Result]]:
    """Run tasks in threads of this process."""
    with ThreadPoolExecutor(workers, thread_name_prefix="tiltcli") as pool:
        yield from _collect(lambda task: pool.submit(work, task), tasks, 2 * workers)


def run_processes(
    work: Callable[[Task], Result],
    tasks: Iterable[Task],
    workers: int,
    stop: Callable[[], bool],
) -> Iterator[Done[Task, Result]]:
    """Run tasks in single-threaded processes; a worker that dies costs only its own task.

    When `stop()` becomes true the workers are ended and the iterator with them.
    """
    from pebble import ProcessPool

    pool = ProcessPool(max_workers=workers, context=_Context(), initializer=_quiet_worker)
    try:
        yield from _collect(
            lambda task: pool.schedule(work, args=(task,)), tasks, workers + 1, stop
        )
        pool.close()  # type: ignore[no-untyped-call]
    finally:
        pool.stop()  # type: ignore[no-untyped-call]
        pool.join()


class _Process(SpawnProcess):
    """A fresh interpreter that does not run the user's own script again.

    Tasks are importable from this package, so workers have no need of `__main__`; without this, a
    script or notebook that starts a sweep would be run once more by every worker.
    """

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            return SpawnProcess._Popen(process_obj)
        finally:
            sys.modules["__main__"] = main


class _Context(SpawnContext):
    Process = _Process


def _quiet_worker() -> None:
    """One thread per worker; Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    torch.set_num_threads(1)


def _collect(
    submit: Callable[[Task], Future[Any]],
    tasks: Iterable[Task],
    window: int,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Done[Task, Any]]:
    """Keep `window` tasks under way and yield them as they end."""
    ended: queue.SimpleQueue[tuple[Task, Future[Any]]] = queue.SimpleQueue()
    waiting = iter(tasks)
    running = 0

    def start(task: Task) -> None:
        future = submit(task)
        future.add_done_callback(lambda future: ended.put((task, future)))

    for task in itertools.islice(waiting, window):
        start(task)
        running += 1
    while running:
        try:
            task, future = ended.get(timeout=0.2)
        except queue.Empty:
            if stop():
                return
            continue
        running -= 1
        for following in itertools.islice(waiting, 1):
            start(following)
            running += 1
        error = future.exception()
        yield Done(task, None if error else future.result(), error)
