"""The general engine: torch autograd, for everything the fused kernel does not cover."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from tiltcli.data import Dataset
from tiltcli.engines.base import Block, Context, Ending, Interrupted, Snapshot, divergence_note
from tiltcli.engines.torch.checkpoint import Checkpoint
from tiltcli.engines.torch.devices import open_device
from tiltcli.engines.torch.state import Row, Training, sound
from tiltcli.errors import Outcome
from tiltcli.grid import Job

BLOCK_SECONDS = 0.5
BLOCK_ROWS = 1 << 14


def train(job: Job, data: Dataset, context: Context) -> Iterator[Block | Snapshot | Ending]:
    """Yield what a training has to tell; see `tiltcli.engines.base.Engine`.

    Raises:
        Interrupted: when `context.stop()` became true; a checkpoint was saved, if one is kept.

    """
    run = Training(job, data, open_device(context.device), context.stop)
    checkpoint = Checkpoint(context.checkpoint, job.id, context.checkpoint_seconds)
    recalls = bool(job.get("train.recall"))
    metrics = _Metrics(context.checkpoint is not None, recalls)
    earlier = checkpoint.restore(run)
    if earlier is not None:
        yield metrics.resume(earlier.metrics)
    every = int(job["train.log_every"])
    outcome, note = Outcome.COMPLETED, ""
    probed = frozenset(context.snapshots)
    try:
        while True:
            if checkpoint.due:
                checkpoint.save(run, metrics.blocks())
            epoch, step, last = run.epoch, run.step, run.done
            logged = epoch % every == 0 or last
            at_start = run.batch == 0
            snapshot = run.snapshot() if at_start and epoch in probed else None
            row, loss = run.advance(logged and at_start)
            if row is not None:
                metrics.rows.append(row)
            metrics.updates += run.step - step
            if not sound(loss):
                if not logged:  # the state that showed it is worth a row all the same
                    metrics.rows.append(run.measure())
                outcome, note = Outcome.DIVERGED, divergence_note(epoch, loss)
                break
            if snapshot is not None:
                yield snapshot
            if last:
                break
            if metrics.due:
                yield metrics.block()
        if metrics.rows or metrics.updates:
            yield metrics.block()
        test_loss, test = run.evaluate("test")
    except Interrupted:
        checkpoint.save(run, metrics.blocks())
        yield metrics.block()  # for the count of updates
        raise
    before = 0.0 if earlier is None else earlier.seconds
    yield Ending(
        *(outcome, epoch, note, test_loss, float(test.plain), float(test.balanced)),
        *(run.parameters, before, checkpoint.unsaved, test.recall if recalls else None),
    )


class _Metrics:
    """Rows that wait to be yielded, and those that were, if a checkpoint will want them."""

    def __init__(self, keep: bool, recalls: bool) -> None:
        self.rows: list[Row] = []
        self.updates = 0
        self._keep, self._recalls = keep, recalls
        self._past: list[Block] = []
        self._yielded = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time for a block, of metrics or only of news."""
        return len(self.rows) >= BLOCK_ROWS or time.monotonic() - self._yielded > BLOCK_SECONDS

    def resume(self, block: Block) -> Block:
        """Begin with the metrics of an earlier run."""
        self._past.append(block)
        return block

    def block(self) -> Block:
        """Take the waiting rows."""
        made = self._block(self.updates)
        if self._keep and self.rows:
            self._past.append(made)
        self.rows, self.updates, self._yielded = [], 0, time.monotonic()
        return made

    def blocks(self) -> list[Block]:
        """All rows so far."""
        return [*self._past, self._block(0)]

    def _block(self, updates: int) -> Block:
        columns: dict[str, Any] = {
            name: np.array(
                [row[i] for row in self.rows], np.int64 if name in ("epoch", "step") else float
            )
            for i, name in enumerate(Row._fields)
        }
        recall = columns.pop("recall")
        keep = self._recalls and len(self.rows)
        return Block(**columns, updates=updates, recall=recall if keep else None)
