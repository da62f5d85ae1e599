"""The client's side of a sweep on a cluster: sends jobs, hears of results, writes what is sent."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tiltcli.analysis.branches import Settled
from tiltcli.errors import UserError
from tiltcli.execution.dask import worker
from tiltcli.execution.dask.connection import Connection
from tiltcli.execution.dask.scheduler import ClusterRun, WorkerProtocol, check_workers
from tiltcli.execution.dask.worker import blocks_of, pack_jobs, tables_of, versions
from tiltcli.execution.executors import Stopped, WorkerLost
from tiltcli.execution.progress import Advance, Progress, step_cost
from tiltcli.execution.train_job import Task, failed
from tiltcli.grid import Job
from tiltcli.grid.settings import FACTORIES, PATHS
from tiltcli.store import Finished, RunWriter
from tiltcli.store.parquet import PROBES, RECALL
from tiltcli.store.spool import setting_columns
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
        request = self._requirements(jobs, set(engines.values()), None)
        check_workers(self, worker.handshake, request)

    def __call__(
        self, tasks: Iterable[Task], writer: RunWriter, progress: Progress, stopped: Stopped
    ) -> Generator[Finished | None, None, None]:
        """Train jobs; yield each as it ends, None for one that was interrupted."""
        todo = list(tasks)  # of one engine
        if not todo or stopped():
            return
        probe = writer.folder / f".{self.token}.tmp"
        folder = writer.folder.resolve()

        def pack(batch: Sequence[Task], info: Mapping[str, Any], name: str) -> str:
            return json.dumps(
                {
                    "token": self.token,
                    "batch": name,
                    "process": info["process"],
                    "jobs": pack_jobs([task.job for task in batch]),
                    "engine": batch[0].engine,
                    "probes": [task.probe and asdict(task.probe) for task in batch],
                    "checkpoint_seconds": (
                        None if batch[0].checkpoint is None else batch[0].checkpoint_seconds
                    ),
                    "folder": str(folder) if info["shared"] else None,
                }
            )

        protocol = WorkerProtocol(
            worker.handshake,
            self._requirements(
                [task.job for task in todo],
                {task.engine for task in todo},
                None if self._send_tables else probe.resolve(),
            ),
            worker.train_batch,
            pack,
            worker.halt,
            lambda task: int(task.job["train.epochs"]) * step_cost(task.job),
        )
        run = ClusterRun(
            self,
            protocol,
            stopped,
            lambda task, amount: progress.add(task.job, Advance(*amount)),
            writer.notes.append,
        )
        probe.touch()
        try:
            for done in run.run(todo):
                if done.error is not None or done.result is None:
                    assert done.error is not None
                    yield from (failed(task, done.error) for task in done.task)
                else:
                    yield from _results(done.task, done.result, folder / "metrics")
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
        start = {**how, "theta": how["theta"].tobytes().hex()}
        said = {"token": self.token, "jobs": pack_jobs([job]), "start": start}

        def pack(batch: Sequence[float], info: Mapping[str, Any], name: str) -> str:
            return json.dumps({**said, "process": info["process"], "rates": list(batch)})

        protocol = WorkerProtocol(
            worker.handshake,
            self._requirements([job], {"fused"}, None),
            worker.settle_batch,
            pack,
            worker.halt,
            lambda _: 1.0,
        )
        run = ClusterRun(self, protocol, stopped, lambda *_: None, writer.notes.append)
        for done in run.run(rates):
            if isinstance(done.error, WorkerLost):
                raise UserError(f"learning rate {done.task[0]:.6g}: {done.error}")
            if done.result is None:
                assert done.error is not None
                raise done.error
            yield from done.result["settled"]

    def _requirements(self, jobs: Sequence[Job], engines: set[str], probe: Path | None) -> str:
        files = {
            job.files[key]: job[digest]
            for job in jobs
            for key, digest in PATHS.items()
            if job.files.get(key) and job.get(digest)
            if key in FACTORIES or Path(job.files[key]).is_file()
        }
        return json.dumps(
            {
                "versions": versions(),
                "files": files,
                "engines": sorted(engines),
                "probe": None if probe is None else str(probe),
            }
        )


def _results(
    tasks: Sequence[Task], reply: Mapping[str, Any], spool: Path
) -> Iterator[Finished | None]:
    for name, content in reply["weights"].items():
        put(weights_path(spool.parent, name), content)
    sent, recalls = blocks_of(reply["metrics"]), tables_of(reply["recall"], RECALL)
    probes = {
        job: [row for table in tables for row in table.to_pylist()]
        for job, tables in tables_of(reply["probes"], PROBES).items()
    }
    for task, row, unsaved, file in zip(
        tasks, reply["rows"], reply["unsaved"], reply["files"], strict=True
    ):
        if row is None:
            yield None
            continue
        job = task.job.id
        whole, probed = {**setting_columns(task.job), **row}, probes.get(job, [])
        if file is not None:
            path = spool / file
            try:
                rows = pq.read_metadata(path).num_rows
            except OSError as error:
                why = error.strerror or error
                raise UserError(
                    f"{path}: a worker wrote it, and it cannot be read: {why}"
                ) from None
            yield Finished(whole, path, rows, probed, unsaved)
            continue
        blocks = sent.get(job, [])
        rows = sum(len(block.epoch) for block in blocks)
        yield Finished(whole, blocks, rows, probed, unsaved, recalls.get(job, []))
