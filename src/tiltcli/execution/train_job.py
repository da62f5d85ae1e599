"""Training one job, or a batch of small ones, to rows of the tables."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiltcli.curvature.queue import probing
from tiltcli.data import dataset_of
from tiltcli.engines import Context, Ending, Interrupted, Snapshot, Trail, load_engine
from tiltcli.engines.base import CHECKPOINT_SECONDS
from tiltcli.errors import Outcome, RunError
from tiltcli.execution.keeping import Keeper
from tiltcli.execution.progress import Advance
from tiltcli.grid import Job, ProbeSettings
from tiltcli.store import Finished, MetricsSpool
from tiltcli.store.spool import setting_columns

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


def _never() -> bool:
    return False


def _unheard(_: Advance) -> None:
    return None


def train_job(
    task: Task,
    stopped: Callable[[], bool] = _never,
    report: Callable[[Advance], None] = _unheard,
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
    stopped: Callable[[], bool] = _never,
    report: Callable[[tuple[int, Advance]], None] = lambda _: None,
) -> list[Finished | RunError | None]:
    """Train jobs one after the other, none once `stopped()`; reports name a task by its place."""
    results: list[Finished | RunError | None] = []
    for place, task in enumerate(tasks):
        if stopped():
            break
        results.append(train_job(task, stopped, lambda advance, at=place: report((at, advance))))  # type: ignore[misc]
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
