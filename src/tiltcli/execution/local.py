"""Tasks trained on this machine, by threads, processes or in this very process; or elsewhere."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from tiltcli.engines import load_engine
from tiltcli.errors import RunError
from tiltcli.execution.checks import at_once
from tiltcli.execution.executors import Immediate, Stopped, run_processes, run_threads
from tiltcli.execution.progress import Advance, Progress
from tiltcli.execution.train_job import Task, failed, train_batch, train_job
from tiltcli.store import Finished, RunWriter

if TYPE_CHECKING:
    from tiltcli.execution.dask import ClusterTrainer

Ended: TypeAlias = Generator[Finished | RunError | None, None, None]
Item = TypeVar("Item")

BATCH_SECONDS = 1.0
MOST_TASKS = 1000
BATCH_SHARE = 4  # a batch is at most this part of a worker's share of what is left


def train(
    tasks: Sequence[Task],
    writer: RunWriter,
    workers: int | None,
    trainer: ClusterTrainer | None,
    progress: Progress,
    stop: threading.Event,
    *,
    patient: bool = True,
) -> Generator[Finished, None, None]:
    """Yield jobs as they end, engine by engine; at its end, however it comes, no worker is left.

    `workers` are trained at once, 0 in this process, None one per core; or all by `trainer`.
    `patient`: a job that is lost again and again has its last attempt when all others have ended.
    """
    for engine in ("fused", "torch"):
        mine = [task for task in tasks if task.engine == engine]
        if not mine or stop.is_set():
            continue
        many = at_once(workers)
        threads = max(1, many // len(mine))
        wanted = (replace(task, threads=threads) for task in mine if not stop.is_set())
        results: Ended
        if trainer is not None:
            results = trainer(wanted, writer, progress, stop.is_set)
        elif workers == 0:
            results = _here(engine, wanted, progress, stop.is_set)
        elif engine == "torch":
            batches = Batches(wanted, len(mine), many)
            results = _by_processes(batches, many, progress, stop.is_set, patient)
        else:
            results = _by_threads(engine, wanted, many, progress, stop.is_set)
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


def _here(engine: str, tasks: Iterable[Task], progress: Progress, stopped: Stopped) -> Ended:
    with ExitStack() as stack:
        if engine == "torch":
            from tiltcli.engines.torch.update_cost import one_thread

            stack.enter_context(one_thread())  # as workers have: their sums come out the same
        for task in tasks:
            yield train_job(task, stopped, partial(progress.add, task.job), Immediate())


def _by_threads(
    engine: str, tasks: Iterable[Task], workers: int, progress: Progress, stopped: Stopped
) -> Ended:
    load_engine(engine)  # compile once, before the threads race to it

    def report(task: Task, advance: Advance) -> None:
        progress.add(task.job, advance)

    # Threads that all jobs' probes share; none is begun before there is a probe.
    with ThreadPoolExecutor(workers, thread_name_prefix="probe") as probers:
        work = partial(train_job, executor=probers)
        for one in run_threads(work, tasks, workers, stopped, report):
            # An error here: the machinery around the job failed.
            yield one.result if one.error is None else failed(one.task, one.error)


def _by_processes(
    batches: Batches[Task], workers: int, progress: Progress, stopped: Stopped, patient: bool
) -> Ended:
    """Run tasks in processes, tiny ones in batches."""

    def report(batch: tuple[Task, ...], told: tuple[int, Advance]) -> None:
        progress.add(batch[told[0]].job, told[1])

    for one in run_processes(train_batch, batches, workers, stopped, report, patient=patient):
        if one.error is None:
            results = one.result or []
            done = [result for result in results if isinstance(result, Finished)]
            batches.took(len(done), sum(result.row["seconds"] for result in done))
            yield from results
        elif len(one.task) > 1:
            batches.again(one.task)  # whichever of them it was, the others are not to blame
        else:
            yield failed(one.task[0], one.error)


class Batches(Generic[Item]):
    """Batches of tasks of about a second; after the last one come those whose batch was lost.

    A job of a few milliseconds costs more to send than to train, and its worker would wait while
    others' results are being written.
    """

    def __init__(self, tasks: Iterable[Item], count: int, workers: int) -> None:
        self._tasks, self._left, self._workers = iter(tasks), count, workers
        self._again: deque[Item] = deque()
        self._pace: float | None = None

    def __iter__(self) -> Iterator[tuple[Item, ...]]:
        """Itself."""
        return self

    def __next__(self) -> tuple[Item, ...]:
        """Next batch: what came back one by one, then the rest in good portions."""
        if self._again:
            return (self._again.popleft(),)
        batch = tuple(itertools.islice(self._tasks, self.size()))
        self._left -= len(batch)
        if not batch:
            raise StopIteration
        return batch

    def size(self) -> int:
        """Items in the next batch; one until it is known how long they take."""
        if self._pace is None:
            return 1
        # At the end small ones, so that no worker is left with a whole batch while others idle.
        fair = self._left // (BATCH_SHARE * self._workers)
        return max(1, min(int(BATCH_SECONDS / max(self._pace, 1e-9)), fair, MOST_TASKS))

    def took(self, count: int, seconds: float) -> None:
        """Learn how long some tasks took together."""
        if count:
            latest = seconds / count
            # Items come sorted by size, so what came last says most about what comes next.
            self._pace = latest if self._pace is None else (self._pace + latest) / 2

    def again(self, batch: Sequence[Item]) -> None:
        """Take back tasks whose batch was lost: each will come again, alone."""
        self._again.extend(batch)
