"""Tiny jobs sent to worker processes several at a time, about a second of work in each batch.

A job of a few milliseconds costs more to send than to train, and its worker would wait while
others' results are being written.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

Task = TypeVar("Task")

BATCH_SECONDS = 1.0
MOST = 1000
SHARE = 4  # a batch is at most this part of a worker's share of what is left


class Batches(Generic[Task]):
    """Batches of tasks; after the last one there may be more, of tasks whose batch was lost."""

    def __init__(self, tasks: Iterable[Task], count: int, workers: int) -> None:
        self._tasks = iter(tasks)
        self._left = count
        self._workers = workers
        self._again: deque[Task] = deque()
        self._pace: float | None = None

    def __iter__(self) -> Iterator[tuple[Task, ...]]:
        """Itself."""
        return self

    def __next__(self) -> tuple[Task, ...]:
        """Next batch: what came back one by one, then the rest in good portions."""
        if self._again:
            return (self._again.popleft(),)
        batch = tuple(itertools.islice(self._tasks, self.size()))
        self._left -= len(batch)
        if not batch:
            raise StopIteration
        return batch

    def size(self) -> int:
        """Tasks in the next batch; one until it is known how long they take."""
        if self._pace is None:
            return 1
        # At the end small ones, so that no worker is left with a whole batch while others idle.
        fair = self._left // (SHARE * self._workers)
        return max(1, min(int(BATCH_SECONDS / max(self._pace, 1e-9)), fair, MOST))

    def took(self, count: int, seconds: float) -> None:
        """Learn how long some tasks took together."""
        if count:
            latest = seconds / count
            # Tasks come sorted by size, so what came last says most about what comes next.
            self._pace = latest if self._pace is None else (self._pace + latest) / 2

    def again(self, batch: Sequence[Task]) -> None:
        """Take back tasks whose batch was lost: each will come again, alone."""
        self._again.extend(batch)
