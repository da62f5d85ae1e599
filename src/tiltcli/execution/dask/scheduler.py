"""Tasks on a Dask cluster, in batches, each bound to a worker; lost workers cost nothing but time.

Dask would itself run a lost task again, blaming whatever else was on that worker. Here a batch is
bound to one worker, so that it is known what was lost. Its tasks run again one by one; and the
last attempt a task has, it has alone on its worker. So one that always crashes its worker fails,
and never one that merely ran beside it.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias

from tiltcli.errors import UserError
from tiltcli.execution.dask.connection import Connection, Future, SchedulerLost
from tiltcli.execution.dask.worker import halt, handshake
from tiltcli.execution.executors import RETRIES, Done, Stopped, Task, WorkerError, lost

BATCH_SECONDS = 1.0
"""Length that batches of short tasks are made to have."""

MOST_TASKS = 500
LOOK_SECONDS = 0.5
WAIT_SECONDS = 60.0
"""Time that a cluster may be without any worker."""

GRACE_SECONDS = 30.0
RESULT_SECONDS = 5.0

Amount: TypeAlias = Sequence[int]
"""Progress of a task, as its worker counts it."""

Ended: TypeAlias = Iterator[Done[Sequence[Task], Mapping[str, Any]]]
"""Batches with what their work returned, and tasks that failed."""


def scheduler_gone(connection: Connection) -> str:
    """Say that the scheduler is lost, and what to do."""
    return (
        f"{connection.address}: the Dask scheduler does not answer any more; finished jobs are "
        "kept: run the same command again when it is back"
    )


@dataclass(eq=False)
class _Batch(Generic[Task]):
    name: str
    tasks: Sequence[Task]
    losses: int
    worker: _Worker[Task]
    future: Future
    # Progress of each task by its number, to be taken back should the worker be lost.
    reported: dict[int, list[int]] = field(default_factory=dict)


@dataclass(eq=False)
class _Worker(Generic[Task]):
    address: str
    threads: int
    info: Mapping[str, Any]
    batches: dict[str, _Batch[Task]] = field(default_factory=dict)
    # Kept for one task alone, from the time it is emptied for it.
    reserved: bool = False

    def __str__(self) -> str:
        return f"{self.address} (process {self.info['pid']} on {self.info['host']})"


@dataclass(eq=False)
class Crew(Generic[Task]):
    """Workers of a cluster: asked before they are used, looked after while they are."""

    connection: Connection
    requirements: Mapping[str, Any]  # of the handshake
    note: Callable[[str], None] = lambda said: None  # called with what the user should know
    workers: dict[str, _Worker[Task]] = field(default_factory=dict)
    _pending: dict[str, tuple[int, Future]] = field(default_factory=dict)
    _refused: dict[str, str] = field(default_factory=dict)
    _seen: float = field(default_factory=time.monotonic)
    _looked: float = 0.0

    def gather(self, stopped: Stopped = lambda: False, *, needed: bool = False) -> None:
        """Wait for what workers answer, if `needed` for the first to come; refuse what is unfit."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not stopped():
            self.look(at_once=True)
            if time.monotonic() > deadline:
                late = f"no answer within {WAIT_SECONDS:.0f} s"
                self._refused |= dict.fromkeys(self._pending, late)
                self._pending.clear()
            if self._refused and not self._pending:
                raise UserError(*(f"worker {who}: {why}" for who, why in self._refused.items()))
            if not self._pending and (self.workers or not needed):
                return
            time.sleep(0.02)

    def look(self, *, at_once: bool = False) -> list[_Worker[Task]]:
        """See which workers have come or answered; return those that have gone."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS and not at_once:
            return []
        self._looked = now
        there = self.connection.workers()
        for address, threads in there.items():
            if address not in {*self.workers, *self._pending, *self._refused}:
                asked = self.connection.ask(handshake, self.requirements, worker=address)
                self._pending[address] = threads, asked
        for address, (threads, future) in list(self._pending.items()):
            if address not in there:
                del self._pending[address]
            elif future.done():
                del self._pending[address]
                if not isinstance(future.exception(), OSError):  # gone meanwhile; or asked again
                    self._admit(address, threads, future)
        gone = [self.workers.pop(address) for address in [*self.workers] if address not in there]
        if self.workers or self._pending:
            self._seen = now
        elif now - self._seen > WAIT_SECONDS:
            raise UserError(
                f"{self.connection.address}: no worker for {WAIT_SECONDS:.0f} s; start some "
                f"(dask worker {self.connection.address}) and run the same command again: "
                "finished jobs are kept"
            )
        return gone

    def _admit(self, address: str, threads: int, future: Future) -> None:
        try:
            info: Mapping[str, Any] = future.result(timeout=RESULT_SECONDS)
            mismatch = info["mismatch"]
        except Exception as error:
            if not self.connection.alive:
                raise SchedulerLost from error
            said = (str(error).strip() or type(error).__name__).splitlines()[-1]
            mismatch = (
                "this version of tiltcli cannot be loaded there, or by the scheduler "
                f"({said[:200]}); install the same one everywhere"
            )
        if mismatch is None:
            self.workers[address] = _Worker(address, threads, info)
            return
        self._refused[address] = mismatch
        if self.workers:
            self.note(f"worker {address} is not used: {mismatch}")


def check_workers(connection: Connection, requirements: Mapping[str, Any]) -> None:
    """Shake hands with all workers that are there; refuse those that cannot be used, with why."""
    crew: Crew[Any] = Crew(connection, requirements)
    try:
        crew.gather()
    except SchedulerLost:
        raise UserError(scheduler_gone(connection)) from None


@dataclass(eq=False)
class ClusterRun(Generic[Task]):
    """One run of tasks on a cluster."""

    connection: Connection
    requirements: Mapping[str, Any]  # of the workers' handshake
    # Does a batch on a worker; returns a mapping with the `process`, the `seconds` it took and the
    # `amounts` of progress of its tasks, one each.
    work: Callable[[bytes], Mapping[str, Any]]
    # Makes a batch into the argument of `work`, from its tasks, what the worker's handshake
    # returned, and the name under which progress is told.
    pack: Callable[[Sequence[Task], Mapping[str, Any], str], bytes]
    cost: Callable[[Task], float]  # expected cost of a task, in any unit
    stopped: Stopped
    report: Callable[[Task, Amount], None]  # told of progress; of less than none when it was lost
    note: Callable[[str], None]  # called with what the user should know
    _crew: Crew[Task] = field(init=False)
    _source: Iterator[Task] = field(init=False)
    _waiting: deque[Task] = field(default_factory=deque)
    _again: deque[tuple[Task, int]] = field(default_factory=deque)
    _alone: deque[tuple[Task, int]] = field(default_factory=deque)
    _batches: dict[str, _Batch[Task]] = field(default_factory=dict)
    _inbox: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _rate: float = 0.0

    def run(self, tasks: Iterable[Task]) -> Ended[Task]:
        """Yield batches of the tasks as they end, and tasks that failed."""
        self._source = iter(tasks)
        self._crew = Crew(self.connection, self.requirements, self.note)
        deadline = float("inf")
        try:
            self.connection.listen(self._inbox.put)
            self._crew.gather(self.stopped, needed=True)
            while True:
                if not self.stopped():
                    self._submit_all()
                left = self._waiting or self._again or self._alone
                if not self._batches and (self.stopped() or not left):
                    return
                if self.stopped() and deadline == float("inf"):
                    deadline = time.monotonic() + GRACE_SECONDS
                    token, workers = self.connection.token, list(self._crew.workers)
                    self.connection.tell(halt, token, workers=workers)
                if time.monotonic() > deadline:
                    return
                yield from self._receive()
                for worker in self._crew.look():
                    yield from self._worker_lost(worker)
        except SchedulerLost:
            raise UserError(scheduler_gone(self.connection)) from None
        finally:
            left_over = [batch.future for batch in self._batches.values()]
            if left_over and self.connection.alive:
                self.connection.cancel(left_over)

    def _worker_lost(self, worker: _Worker[Task]) -> Ended[Task]:
        """A worker has gone; what it had runs again, up to the limit."""
        log = "; ".join(self.connection.log_of(worker.info.get("nanny")))
        how = f"{worker}, is gone" + (f"; its nanny's log: {log}" if log else "")
        self.note(f"worker {worker} was lost; its jobs run again")
        for batch in list(worker.batches.values()):
            yield from self._batch_lost(batch, how)

    def _batch_lost(self, batch: _Batch[Task], how: str) -> Ended[Task]:
        self._drop(batch)
        self.connection.cancel([batch.future])
        for number, amount in batch.reported.items():
            self.report(batch.tasks[number], [-n for n in amount])
        losses = batch.losses + 1
        for task in batch.tasks:
            if losses > RETRIES:
                yield Done([task], None, lost(losses, how))
            elif losses == RETRIES:
                self._alone.append((task, losses))
            else:
                self._again.append((task, losses))

    def _drop(self, batch: _Batch[Task]) -> None:
        del self._batches[batch.name]
        batch.worker.batches.pop(batch.name, None)

    # Batches: cut to length, given to workers, taken back.

    def _submit_all(self) -> None:
        """Give every worker something to do."""
        missing = MOST_TASKS - len(self._waiting)
        self._waiting.extend(itertools.islice(self._source, max(missing, 0)))
        workers = sorted(self._crew.workers.values(), key=lambda worker: len(worker.batches))
        if self._alone and workers and not any(worker.reserved for worker in workers):
            workers[0].reserved = True
        for worker in workers:
            if worker.reserved and not worker.batches:
                worker.reserved = bool(self._alone)
                if self._alone:
                    task, losses = self._alone.popleft()
                    self._submit(worker, [task], losses)
        # One batch more than threads: none is idle while its reply is on the way.
        for depth in range(max((worker.threads for worker in workers), default=0) + 1):
            for worker in workers:
                if worker.reserved or len(worker.batches) > depth or depth > worker.threads:
                    continue
                tasks, losses = self._next_tasks(ahead=depth == worker.threads)
                if tasks:
                    self._submit(worker, tasks, losses)

    def _next_tasks(self, ahead: bool) -> tuple[list[Task], int]:
        """Take tasks of about `BATCH_SECONDS`; ahead of time none that is long."""
        if self._again and not ahead:
            task, losses = self._again.popleft()
            return [task], losses
        lanes = sum(worker.threads for worker in self._crew.workers.values())
        most = -(-len(self._waiting) // max(lanes, 1))
        tasks: list[Task] = []
        seconds = 0.0
        while self._waiting and len(tasks) < most:
            cost = self.cost(self._waiting[0])
            expected = cost / self._rate if self._rate else float("inf")
            if (tasks or ahead) and seconds + expected > BATCH_SECONDS:
                break
            tasks.append(self._waiting.popleft())
            seconds += expected
        return tasks, 0

    def _submit(self, worker: _Worker[Task], tasks: Sequence[Task], losses: int) -> None:
        name = f"{next(self._numbers)}"
        packed = self.pack(tasks, worker.info, name)
        future = self.connection.submit(self.work, packed, worker=worker.address)
        batch = _Batch(name, tasks, losses, worker, future)
        self._batches[name] = worker.batches[name] = batch
        future.add_done_callback(lambda _: self._inbox.put(name))

    def _receive(self) -> Ended[Task]:
        """Take what workers have said since."""
        with contextlib.suppress(queue.Empty):
            said = self._inbox.get(timeout=0.1)
            while True:
                if isinstance(said, str):
                    if said in self._batches:
                        yield from self._batch_ended(self._batches[said])
                elif batch := self._batches.get(said["batch"]):
                    number, amount = said["task"], said["amount"]
                    before = batch.reported.get(number, [0] * len(amount))
                    batch.reported[number] = [n + m for n, m in zip(before, amount, strict=True)]
                    self.report(batch.tasks[number], amount)
                said = self._inbox.get_nowait()

    def _batch_ended(self, batch: _Batch[Task]) -> Ended[Task]:
        if not self.connection.alive:
            raise SchedulerLost
        status = batch.future.status
        try:
            if status == "error":
                error = batch.future.exception(timeout=RESULT_SECONDS)
                if isinstance(error, UserError):
                    raise error
                if type(error).__name__ != "KilledWorker":
                    text = "".join(traceback.format_exception(error))
                    self._drop(batch)
                    yield Done(batch.tasks, None, WorkerError(text))
                    return
            reply = batch.future.result(timeout=RESULT_SECONDS) if status == "finished" else {}
        except (OSError, TimeoutError, CancelledError):
            if not self.connection.alive:
                raise SchedulerLost from None
            reply = {}
        if reply.get("process") != batch.worker.info["process"]:
            # It has been restarted, or died before its reply could be fetched.
            yield from self._batch_lost(batch, f"{batch.worker}, is gone")
            return
        self._drop(batch)
        cost = sum(self.cost(task) for task in batch.tasks)
        if reply["seconds"] > 0:
            rate = cost / reply["seconds"]
            self._rate = (self._rate + rate) / 2 if self._rate else rate
        for number, amount in enumerate(reply["amounts"]):
            before = batch.reported.get(number, [0] * len(amount))
            self.report(batch.tasks[number], [n - m for n, m in zip(amount, before, strict=True)])
        yield Done(batch.tasks, reply, None)
