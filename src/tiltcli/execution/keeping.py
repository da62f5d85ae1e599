"""Which of a training's weights are kept, and how they come into the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from tiltcli.analysis.retraining import weights_at
from tiltcli.data import Dataset
from tiltcli.engines import Block, Ending, Snapshot
from tiltcli.errors import Outcome
from tiltcli.grid import Job
from tiltcli.store.spool import setting_columns
from tiltcli.store.weights import Facts, weights_path, write_weights


class Keeper:
    """Keeps the weights of the end, or of the logged epoch with the best validation accuracy.

    Of several best epochs the first counts; of a diverged job, those before that. Only the best so
    far is held, and those whose metrics have not come yet. `due` are the epochs, rising, whose
    weights it looks at.
    """

    def __init__(self, job: Job, data: Dataset, run: Path) -> None:
        self._job, self._data, self._run = job, data, run
        kind, last = str(job.get("train.keep") or "none"), int(job["train.epochs"])
        self._best = kind == "best" and data.val is not None
        every = int(job["train.log_every"])
        self.due: Sequence[int] = ()
        if kind != "none":
            self.due = sorted({*range(0, last, every), last}) if self._best else (last,)
        self._waiting: dict[int, Snapshot] = {}
        self._kept: Snapshot | None = None
        self._epoch, self._seen, self._accuracy = -1, -1, -1.0
        self._before: tuple[int, Snapshot | None] = -1, None

    def take(self, snapshot: Snapshot) -> None:
        """Look at the weights of an epoch that was due."""
        if not self._best:
            self._kept, self._epoch = snapshot, snapshot.epoch
        elif snapshot.epoch == self._epoch:
            self._kept = snapshot
        elif snapshot.epoch > self._seen:
            self._waiting[snapshot.epoch] = snapshot

    def see(self, block: Block) -> None:
        """Learn the metrics of some epochs."""
        if not self._best or not len(block.epoch):
            return
        for epoch, accuracy in zip(block.epoch.tolist(), block.val_accuracy, strict=True):
            if accuracy > self._accuracy:
                self._before = self._epoch, self._kept
                self._epoch, self._accuracy = epoch, float(accuracy)
                self._kept = self._waiting.get(epoch)
        self._seen = int(block.epoch[-1])
        self._waiting = {e: s for e, s in self._waiting.items() if e > self._seen}

    def write(self, ending: Ending, engine: str, device: str, stop: Callable[[], bool]) -> None:
        """Write what is kept, if anything; weights of before a checkpoint are trained once more."""
        epoch, kept = self._epoch, self._kept
        if ending.outcome == Outcome.DIVERGED and epoch == ending.epoch:
            epoch, kept = self._before  # where it diverged it has measures, but no weights
        if not self.due or epoch < 0:
            return
        if kept is None:
            (kept,) = weights_at(self._job, self._data, (epoch,), engine, stop, device=device)
        from tiltcli.networks.classifier import named_tensors

        job, data = self._job, self._data
        tensors = named_tensors(job, data.sample_shape, data.classes, kept.theta)
        write_weights(weights_path(self._run, job.id), tensors, facts_of(job, data, kept.epoch))


def facts_of(job: Job, data: Dataset, epoch: int) -> Facts:
    """Return what stands beside the weights that a job had at an epoch."""
    mean, spread = (None, None) if data.scale is None else [one.tolist() for one in data.scale]
    return Facts(
        job.id,
        epoch,
        setting_columns(job),
        list(data.labels),
        list(data.sample_shape),
        mean,
        spread,
        None if data.encoding is None else json.loads(data.encoding),
    )
