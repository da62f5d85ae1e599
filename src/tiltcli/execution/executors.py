"""Tasks in threads or processes of this machine; a process that dies costs only its own task.

Work is a function of three: the task, `stopped()` that turns true when it should end early, and
`report(amount)` that tells, in whatever form, how far it is. A worker that dies (killed, out of
memory, a crash in native code) costs its task an attempt; after `RETRIES` more the task ends with
`WorkerLost`.

Each process has a pipe of its own and one task at a time, so it is always known whose task was
lost, and nothing is shared that a killed process could leave locked.
"""

from __future__ import annotations

import itertools
import multiprocessing.connection
import signal
import sys
import time
import traceback
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeAlias, TypeVar

from tiltcli.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")
T = TypeVar("T")

Stopped: TypeAlias = Callable[[], bool]
Report: TypeAlias = Callable[[Any], None]
Work: TypeAlias = Callable[[Task, Stopped, Report], Result]

RETRIES = 2
"""Times a task runs again after its worker was lost."""

GRACE_SECONDS = 30.0
"""Time that work has to end by itself once it was asked to stop."""

LOOK_SECONDS = 0.1
FAILED_STARTS = 3


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


def ending(exitcode: int) -> str:
    """Say how a process ended, from its exit code as `multiprocessing` gives it."""
    if exitcode >= 0:
        return f"ended with exit code {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    hint = " (out of memory: try fewer --workers; or from outside)" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"


def run_threads(
    work: Work[Task, Result],
    tasks: Iterable[Task],
    workers: int,
    stopped: Stopped,
    report: Callable[[Task, Any], None],
) -> Iterator[Done[Task, Result]]:
    """Yield tasks as they end, run in threads; they are taken as needed, to save memory."""
    waiting = iter(tasks)
    running: dict[Future[Result], Task] = {}
    with ThreadPoolExecutor(workers, thread_name_prefix="tiltcli") as pool:
        while True:
            # One more waits for each worker: none is idle while results are being written.
            for task in itertools.islice(waiting, 2 * workers - len(running)):
                running[pool.submit(work, task, stopped, partial(report, task))] = task
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                error = future.exception()
                yield Done(running.pop(future), None if error else future.result(), error)


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


def run_processes(
    work: Work[Task, Result],
    tasks: Iterable[Task],
    workers: int,
    stopped: Stopped,
    report: Callable[[Task, Any], None],
    retries: int = RETRIES,
    *,
    patient: bool = True,
) -> Iterator[Done[Task, Result]]:
    """Yield tasks as they end, run in single-threaded processes by a function they can import.

    When `stopped()` becomes true no more tasks are begun; those under way are asked to end, and
    are ended by force `GRACE_SECONDS` later. A task whose worker died goes back to the queue, and
    has its last attempt alone, after all others and without other workers: where it was memory that
    they lacked together, no task fails that has enough alone. Who is not `patient` does not wait
    for the others. Tasks are taken as needed, so that memory does not grow with their number.

    Raises:
        UserError: if workers die before they can take a task.

    """
    waiting, queue, alone = iter(tasks), deque[tuple[Task, int]](), deque[tuple[Task, int]]()
    crew: list[_Worker[Task]] = []
    failed_starts, deadline = 0, float("inf")
    try:
        while True:
            if not stopped():
                missing = max(0, workers - len(queue))
                queue.extend((task, 0) for task in itertools.islice(waiting, missing))
                if alone and not queue and not any(worker.task is not None for worker in crew):
                    queue.append(alone.popleft())
                    while len(crew) > 1:
                        crew.pop().end()
                for worker in crew:
                    if worker.ready and worker.task is None and queue:
                        worker.give(*queue.popleft())
                starting = sum(not worker.ready for worker in crew)
                for _ in range(min(workers - len(crew), len(queue) - starting)):
                    crew.append(_Worker(work))
            busy = [worker for worker in crew if worker.task is not None]
            if not busy and (stopped() or not queue):
                return
            if stopped() and deadline == float("inf"):
                deadline = time.monotonic() + GRACE_SECONDS
                for worker in busy:
                    worker.ask_to_stop()
            if time.monotonic() > deadline:
                return
            heard = multiprocessing.connection.wait([w.pipe for w in crew], LOOK_SECONDS)
            for worker in [w for w in crew if w.pipe in heard]:
                try:
                    kind, value = worker.pipe.recv()
                except (EOFError, OSError):
                    crew.remove(worker)
                    how = worker.end()
                    if not worker.ready:
                        failed_starts += 1
                        if failed_starts >= FAILED_STARTS:
                            raise UserError(
                                f"a worker, {how}, before it could start, "
                                f"{failed_starts} times; too little memory? Try fewer --workers"
                            ) from None
                    if worker.task is not None and worker.losses < retries:
                        last = patient and worker.losses + 1 == retries
                        (alone if last else queue).append((worker.task, worker.losses + 1))
                    elif worker.task is not None:
                        yield Done(worker.task, None, lost(worker.losses + 1, how))
                    continue
                if kind == "ready":
                    worker.ready, failed_starts = True, 0
                elif kind == "progress" and worker.task is not None:
                    report(worker.task, value)
                elif worker.task is not None:
                    task, worker.task = worker.task, None
                    error = WorkerError(value) if kind == "raised" else None
                    yield Done(task, None if error else value, error)
    finally:
        for worker in crew:
            worker.pipe.close()
        for worker in crew:
            worker.end()


class _Worker(Generic[Task]):
    """A process, the pipe to it, and the task it has."""

    def __init__(self, work: Callable[..., Any]) -> None:
        context = _Context()
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, work), daemon=True)
        self.process.start()
        # The process has the only copy now: its death closes the pipe.
        other.close()
        self.ready = False
        self.task: Task | None = None
        self.losses = 0

    def give(self, task: Task, losses: int) -> None:
        self.task, self.losses = task, losses
        self._send(task)

    def ask_to_stop(self) -> None:
        self._send(None)

    def _send(self, message: Any) -> None:
        try:
            self.pipe.send(message)
        except OSError:
            return  # it is gone; reading from the pipe tells

    def end(self) -> str:
        """End the process, if it has not ended; say how it did."""
        said = f"process {self.process.pid}, "
        self.pipe.close()
        # One that has no task ends by itself now; one that has died only has to be waited for.
        self.process.join(1.0 if self.task is None else 0.0)
        if self.process.exitcode is None:
            self.process.join(0.2)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        return said + ending(self.process.exitcode or 0)


def _serve(pipe: Connection, work: Work[Any, Any]) -> None:
    """Work off what comes through the pipe; in the worker."""
    # Ctrl-C, and a SIGTERM that a batch system sends to all processes, are the parent's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    import torch

    torch.set_num_threads(1)
    looked = 0.0

    def stopped() -> bool:
        # While there is a task, all that can come is the wish to stop, or the parent's end.
        nonlocal looked
        now = time.monotonic()
        if now - looked < LOOK_SECONDS:
            return False
        looked = now
        return pipe.poll()

    try:
        pipe.send(("ready", None))
        while (task := pipe.recv()) is not None:
            try:
                result = work(task, stopped, lambda amount: pipe.send(("progress", amount)))
            except Exception:
                pipe.send(("raised", traceback.format_exc()))
            else:
                pipe.send(("done", result))
    except (EOFError, OSError):
        return  # the parent is gone


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
