"""Training one job, or a batch of small ones, to rows of the tables and to weights kept."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiltcli.analysis.retraining import weights_at
from tiltcli.curvature.queue import probing
from tiltcli.data import Dataset, dataset_of
from tiltcli.engines import Block, Context, Ending, Interrupted, Snapshot, Trail, load_engine
from tiltcli.engines.base import CHECKPOINT_SECONDS
from tiltcli.errors import Outcome, RunError
from tiltcli.execution.executors import Stopped
from tiltcli.execution.progress import Advance
from tiltcli.grid import Job, ProbeSettings
from tiltcli.store import Finished, MetricsSpool
from tiltcli.store.spool import setting_columns
from tiltcli.store.weights import Facts, weights_path, write_weights

SCORES = ("loss", "accuracy", "balanced_accuracy")


@dataclass(frozen=True)
class Task:
    """A job and how it is trained."""

    job: Job  # what to train
    engine: str  # name of the engine
    spool: Path  # folder where its metrics wait, in that of the run
    writer: str = ""  # name of the part writer that will take them
    probe: ProbeSettings | None = None  # what to probe along the training, or None
    threads: int = 1  # threads for its probes, where they share none with other jobs
    device: str = "auto"  # where torch trains it
    checkpoint: Path | None = None  # file that torch saves it to now and then; None for none
    checkpoint_seconds: float = CHECKPOINT_SECONDS  # time between two saves


def train_job(
    task: Task,
    stopped: Stopped = lambda: False,
    report: Callable[[Advance], None] = lambda advance: None,
    executor: Executor | None = None,
) -> Finished | RunError | None:
    """Return a finished job, whatever happens: an exception becomes a failed job.

    None if it was interrupted, or why no job can be trained or stored: then the disk or a changed
    file is at fault and not the job. Without an executor threads of the job's own make its probes.
    """
    job, started = task.job, time.perf_counter()
    spool = MetricsSpool(job.id, task.spool, task.writer)
    try:
        data = dataset_of(job)
        ending: Ending | None = None
        keeper = Keeper(job, data, task.spool.parent)
        with probing(job, data, task.probe, executor, task.threads) as queue:
            keeping = (task.device, task.checkpoint, task.checkpoint_seconds)
            probed, kept = frozenset(queue.due if queue else ()), frozenset(keeper.due)
            trail = queue is not None and queue.follow is not None
            context = Context(stopped, sorted(probed | kept), *keeping, trail)
            last = max(probed, default=-1)
            for item in load_engine(task.engine)(job, data, context):
                if isinstance(item, Ending):
                    ending = item
                elif isinstance(item, Snapshot):
                    if queue is not None and item.epoch in probed:
                        queue.add(item)
                        trail = trail and item.epoch < last  # what comes after it tells nothing
                    if item.epoch in kept:
                        keeper.take(item)
                elif isinstance(item, Trail):
                    if queue is not None and trail:
                        queue.add_updates(item)
                else:
                    spool.add(item, data.labels)
                    keeper.see(item)
                    report(Advance(item.updates, queue.made() if queue else 0))
            probes: list[dict[str, Any]] = []
            if queue is not None:
                probes = queue.finish(stopped, lambda made: report(Advance(0, made)))
        assert ending is not None
        spool.end(ending, data.labels)
        keeper.write(ending, task.engine, task.device, stopped)
        row = {
            "job": job.id,
            "outcome": str(ending.outcome),
            "error": ending.note or None,
            **setting_columns(job),
            "parameters": ending.parameters,
            "train_samples": len(data.train),
            "labels": data.labels_text,
            **{
                name: spool.last[name]
                for name in (f"{part}_{score}" for part in ("train", "val") for score in SCORES)
            },
            "test_loss": ending.test_loss,
            "test_accuracy": ending.test_accuracy,
            "test_balanced_accuracy": ending.test_balanced_accuracy,
            "epochs": ending.epoch,
            "seconds": time.perf_counter() - started + ending.seconds_before,
            "engine": task.engine,
        }
        for part in {"val", "test"} - set(data.parts):
            row |= {f"{part}_{score}": None for score in SCORES}
        metrics = spool.finish()
        return Finished(row, metrics, spool.rows, probes, ending.unsaved, spool.recalls)
    except Interrupted:
        spool.discard()
        return None
    except RunError as error:
        spool.discard()
        return error
    except Exception as error:
        spool.discard()
        return failed(task, error, time.perf_counter() - started)


def train_batch(
    tasks: Sequence[Task],
    stopped: Stopped = lambda: False,
    report: Callable[[tuple[int, Advance]], None] = lambda _: None,
    executor: Executor | None = None,
) -> list[Finished | RunError | None]:
    """Train jobs one after the other, none once `stopped()`; reports name a task by its place."""
    results: list[Finished | RunError | None] = []
    for place, task in enumerate(tasks):
        if stopped():
            break
        told = lambda advance, at=place: report((at, advance))  # noqa: E731
        results.append(train_job(task, stopped, told, executor))
    return results


def failed(task: Task, error: BaseException, seconds: float = 0.0) -> Finished:
    """Return a job that failed, with its traceback."""
    text = "".join(traceback.format_exception(error))
    row = {
        "job": task.job.id,
        "outcome": str(Outcome.FAILED),
        "error": text,
        **setting_columns(task.job),
        "seconds": seconds,
        "engine": task.engine,
    }
    return Finished(row, [], 0)


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
