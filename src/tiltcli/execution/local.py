"""Tasks trained on this machine: by threads, by processes, or in this very process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from itertools import chain

from tiltcli.engines import load_engine
from tiltcli.errors import RunError
from tiltcli.execution.batching import Batches
from tiltcli.execution.executors import Immediate, run_in_process, run_processes, run_threads
from tiltcli.execution.progress import Advance, Progress
from tiltcli.execution.run_options import at_once
from tiltcli.execution.train_job import Task, failed, train_batch, train_job
from tiltcli.store import Finished

Ended = Generator[Finished | RunError | None, None, None]


def run_tasks(
    engine: str,
    tasks: Iterable[Task],
    count: int,
    workers: int | None,
    progress: Progress,
    stopped: Callable[[], bool],
) -> Generator[Finished | RunError | None, None, None]:
    """Run one engine's tasks, `workers` at once: 0 in this process, None one per core."""
    waiting = iter(tasks)
    first = next(waiting, None)
    if first is None or stopped():
        return
    wanted = (task for task in chain((first,), waiting) if not stopped())

    def report(task: Task, advance: Advance) -> None:
        progress.add(task.job, advance)

    if workers == 0:
        yield from _in_process(engine, wanted, stopped, report)
    elif engine == "torch":
        yield from _by_processes(wanted, count, at_once(workers), progress, stopped)
    else:
        probed = first.probe is not None
        yield from _by_threads(engine, wanted, at_once(workers), probed, stopped, report)


def _in_process(
    engine: str,
    tasks: Iterator[Task],
    stopped: Callable[[], bool],
    report: Callable[[Task, Advance], None],
) -> Ended:
    with ExitStack() as stack:
        if engine == "torch":
            from tiltcli.engines.torch.update_cost import one_thread

            stack.enter_context(one_thread())  # as workers have: their sums come out the same
        work = partial(train_job, executor=Immediate())
        for one in run_in_process(work, tasks, stopped, report):
            yield one.result


def _by_threads(
    engine: str,
    tasks: Iterator[Task],
    workers: int,
    probed: bool,
    stopped: Callable[[], bool],
    report: Callable[[Task, Advance], None],
) -> Ended:
    load_engine(engine)  # compile once, before the threads race to it
    work: Callable[..., Finished | RunError | None] = train_job
    with ExitStack() as stack:
        if probed:
            pool = ThreadPoolExecutor(workers, thread_name_prefix="probe")
            work = partial(train_job, executor=stack.enter_context(pool))
        for one in run_threads(work, tasks, workers, stopped, report):
            # An error here: the machinery around the job failed.
            yield one.result if one.error is None else failed(one.task, one.error)


def _by_processes(
    tasks: Iterator[Task],
    count: int,
    workers: int,
    progress: Progress,
    stopped: Callable[[], bool],
) -> Ended:
    """Run tasks in processes, tiny ones in batches."""

    def report(batch: tuple[Task, ...], advance: tuple[int, Advance]) -> None:
        progress.add(batch[advance[0]].job, advance[1])

    batches = Batches(tasks, count, workers)
    for one in run_processes(train_batch, batches, workers, stopped, report):
        if one.error is None:
            results = one.result or []
            done = [result for result in results if isinstance(result, Finished)]
            batches.took(len(done), sum(result.row["seconds"] for result in done))
            yield from results
        elif len(one.task) > 1:
            batches.again(one.task)  # whichever of them it was, the others are not to blame
        else:
            yield failed(one.task[0], one.error)


def ended_jobs(
    results: Generator[Finished | RunError | None, None, None], stop: threading.Event
) -> Generator[Finished, None, None]:
    """Yield jobs that ended; at the end of it, however it comes, no worker is left."""
    with closing(results):
        try:
            for result in results:
                if isinstance(result, RunError):
                    raise result
                if result is not None:
                    yield result
        except BaseException:
            stop.set()
            raise
