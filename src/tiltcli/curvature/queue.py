"""Probes made beside a training, by threads of their own."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any

from tiltcli.curvature.lyapunov import Follower
from tiltcli.curvature.prober import Prober
from tiltcli.data import Dataset
from tiltcli.engines.base import Interrupted, Snapshot, Trail
from tiltcli.grid import Job, ProbeSettings

WAITING_BYTES, WAITING_LEAST = 64 << 20, 4
"""How far a training may run ahead of its probes: bytes of weights, and at least so many."""


class ProbeQueue:
    """Hands the snapshots of one training at the epochs `due` to an executor.

    `follow` takes the updates in between; None where they are not wanted.
    """

    def __init__(
        self,
        due: Sequence[int],
        probe: Callable[[Snapshot], dict[str, Any]],
        executor: Executor,
        follow: Callable[[Trail], float] | None = None,
    ) -> None:
        self.due, self.follow = due, follow
        self._probe, self._executor = probe, executor
        self._waiting: deque[Future[dict[str, Any]]] = deque()
        self._exponent: Future[float] | None = None
        self._rows: list[dict[str, Any]] = []
        self._told = 0

    def add(self, snapshot: Snapshot) -> None:
        """Take a snapshot; waits for earlier ones where too many wait already."""
        most = max(WAITING_LEAST, WAITING_BYTES // snapshot.theta.nbytes)
        while len(self._waiting) >= most:
            self._rows.append(self._waiting.popleft().result())
        self._waiting.append(self._executor.submit(self._row, snapshot, self._exponent))

    def add_updates(self, trail: Trail) -> None:
        """Take updates; they are followed one after the other, whatever the threads."""
        before = self._exponent
        self._exponent = self._executor.submit(self._on, before, trail)
        if before is not None:
            before.result()  # the next trail may be written where that one was: see `Trail`

    def _on(self, before: Future[float] | None, trail: Trail) -> float:
        assert self.follow is not None
        if before is not None:
            before.result()  # it was begun earlier: an executor takes what it is given in order
        return self.follow(trail)

    def _row(self, snapshot: Snapshot, exponent: Future[float] | None) -> dict[str, Any]:
        row = self._probe(snapshot)
        return row if exponent is None else row | {"lyapunov": exponent.result()}

    def made(self) -> int:
        """Probes that have ended since this was last asked."""
        while self._waiting and self._waiting[0].done():
            self._rows.append(self._waiting.popleft().result())
        told, self._told = self._told, len(self._rows)
        return self._told - told

    def finish(
        self, stopped: Callable[[], bool], report: Callable[[int], None]
    ) -> list[dict[str, Any]]:
        """Rows of all probes, once they are made; Interrupted once `stopped()` is true."""
        while self._waiting:
            if stopped():
                raise Interrupted
            if made := self.made():
                report(made)
            else:
                time.sleep(0.01)
        return self._rows

    def cancel(self) -> None:
        """Drop the probes that wait, and let those under way end."""
        for future in self._waiting:
            future.cancel()
        for future in self._waiting:
            try:
                future.exception()
            except CancelledError:
                continue
        self._waiting.clear()


@contextmanager
def probing(
    job: Job,
    data: Dataset,
    settings: ProbeSettings | None,
    executor: Executor | None = None,
    threads: int = 1,
) -> Iterator[ProbeQueue | None]:
    """Probe a training while the body runs it; gives the queue for its snapshots."""
    if settings is None:
        yield None
        return
    own = nullcontext(executor) if executor else ThreadPoolExecutor(threads, "probe")
    with own as pool:
        due = settings.due(int(job["train.epochs"]))
        follow = Follower(job, data).follow if "lyapunov" in settings.quantities else None
        queue = ProbeQueue(due, Prober(job, data, settings), pool, follow)
        try:
            yield queue
        finally:
            queue.cancel()
