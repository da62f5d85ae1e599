"""Threads of this process, for work that releases the GIL."""

from __future__ import annotations

import itertools
import queue
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from tiltcli.execution.executors.protocol import Done, Result, Stopped, Task, Work


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
