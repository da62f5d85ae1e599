"""The client's side of a sweep on a cluster: sends jobs, hears of results, writes what is sent."""

from __future__ import annotations

import pickle
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tiltcli.analysis.branches import Settled
from tiltcli.errors import UserError
from tiltcli.execution.dask import worker
from tiltcli.execution.dask.connection import Connection
from tiltcli.execution.dask.scheduler import ClusterRun, check_workers
from tiltcli.execution.dask.worker import versions
from tiltcli.execution.executors import Stopped, WorkerLost
from tiltcli.execution.progress import Advance, Progress, step_cost
from tiltcli.execution.train_job import Task, failed
from tiltcli.grid import Job
from tiltcli.grid.settings import FACTORIES, PATHS
from tiltcli.store import Finished, RunWriter
from tiltcli.store.weights import put, weights_path


class ClusterTrainer(Connection):
    """A connection to a Dask cluster that trains a sweep's jobs there; use as a context manager.

    All rows are written here. Workers send theirs back, but for the metrics of long jobs, which
    those that see the run's folder leave in a file there (unless `send_tables`). Data files are not
    sent: their paths must lead to the same content on every worker.
    """

    def __init__(self, address: str, send_tables: bool = False) -> None:
        super().__init__(address)
        self._send_tables = send_tables

    def check(self, jobs: Sequence[Job], engines: Mapping[str, str]) -> None:
        """Refuse jobs that workers there cannot train, naming each such worker, and why."""
        check_workers(self, _requirements(jobs, set(engines.values())))

    def __call__(
        self, tasks: Iterable[Task], writer: RunWriter, progress: Progress, stopped: Stopped
    ) -> Generator[Finished | None, None, None]:
        """Train jobs; yield each as it ends, None for one that was interrupted."""
        folder = writer.folder.resolve()
        todo = [  # of one engine
            replace(
                task,
                spool=folder / "metrics",
                checkpoint=None if task.checkpoint is None else task.checkpoint.resolve(),
            )
            for task in tasks
        ]
        if not todo or stopped():
            return
        probe = folder / f".{self.token}.tmp"

        def pack(batch: Sequence[Task], info: Mapping[str, Any], name: str) -> bytes:
            return pickle.dumps((self.token, name, info["process"], batch, info["shared"]))

        jobs, engines = [task.job for task in todo], {task.engine for task in todo}
        run = ClusterRun(
            self,
            _requirements(jobs, engines, None if self._send_tables else probe),
            worker.train,
            pack,
            lambda task: int(task.job["train.epochs"]) * step_cost(task.job),
            stopped,
            lambda task, amount: progress.add(task.job, Advance(*amount)),
            writer.notes.append,
        )
        probe.touch()
        try:
            for done in run.run(todo):
                if done.result is None:
                    assert done.error is not None
                    yield from (failed(task, done.error) for task in done.task)
                    continue
                for name, content in done.result["weights"].items():
                    put(weights_path(folder, name), content)
                for one in done.result["results"]:
                    if one is not None and isinstance(one.metrics, Path):
                        _check_readable(one.metrics)
                    yield one
        finally:
            probe.unlink(missing_ok=True)

    def settled(
        self,
        job: Job,
        how: Mapping[str, Any],
        rates: Sequence[float],
        writer: RunWriter,
        stopped: Stopped,
    ) -> Generator[Settled]:
        """Continue a job at learning rates, as a `Brancher` made with `how`; yield each so done."""
        start = pickle.dumps((job, how))

        def pack(batch: Sequence[float], info: Mapping[str, Any], name: str) -> bytes:
            return pickle.dumps((self.token, info["process"], start, batch))

        asked, note = _requirements([job], {"fused"}), writer.notes.append
        one, silent = (lambda _: 1.0), (lambda *_: None)
        run = ClusterRun(self, asked, worker.settle, pack, one, stopped, silent, note)
        for done in run.run(rates):
            if isinstance(done.error, WorkerLost):
                raise UserError(f"learning rate {done.task[0]:.6g}: {done.error}")
            if done.result is None:
                assert done.error is not None
                raise done.error
            yield from done.result["settled"]


def _requirements(
    jobs: Sequence[Job], engines: set[str], probe: Path | None = None
) -> dict[str, Any]:
    files = {
        job.files[key]: job[digest]
        for job in jobs
        for key, digest in PATHS.items()
        if job.files.get(key) and job.get(digest)
        if key in FACTORIES or Path(job.files[key]).is_file()
    }
    return {"versions": versions(), "files": files, "engines": engines, "probe": probe}


def _check_readable(path: Path) -> None:
    """Check that a file which a worker has written is here."""
    try:
        pq.read_metadata(path)
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"{path}: a worker wrote it, and it cannot be read: {why}") from None
