"""Threads of this process, for work that releases the GIL; or none."""

from __future__ import annotations

import itertools
import queue
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, TypeVar

from tiltcli.execution.executors.protocol import Done, Result, Stopped, Task, Work

T = TypeVar("T")


def run_threads(
    work: Work[Task, Result],
    tasks: Iterable[Task],
    workers: int,
    stopped: Stopped,
    report: Callable[[Task, Any], None],
) -> Iterator[Done[Task, Result]]:
    """Yield tasks as they end, run in threads; they are taken as needed, to save memory."""
    ended: queue.SimpleQueue[tuple[Task, Future[Result]]] = queue.SimpleQueue()
    waiting = iter(tasks)
    running = 0
    with ThreadPoolExecutor(workers, thread_name_prefix="tiltcli") as pool:

        def start(task: Task) -> None:
            future = pool.submit(work, task, stopped, lambda amount: report(task, amount))
            future.add_done_callback(lambda future: ended.put((task, future)))

        # One more waits for each worker: none is idle while results are being written.
        for task in itertools.islice(waiting, 2 * workers):
            start(task)
            running += 1
        while running:
            task, future = ended.get()
            running -= 1
            for following in itertools.islice(waiting, 1):
                start(following)
                running += 1
            error = future.exception()
            yield Done(task, None if error else future.result(), error)


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
