"""The client's side of a sweep on a cluster: sends jobs, hears of results, writes what is sent."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from tiltcli.errors import Outcome
from tiltcli.execution.dask import worker
from tiltcli.execution.dask.connection import Connection
from tiltcli.execution.dask.scheduler import ClusterRun, WorkerProtocol, check_workers
from tiltcli.execution.dask.wire import blocks_of, pack_jobs, probes_of, versions
from tiltcli.execution.executors.protocol import Stopped
from tiltcli.execution.progress import Advance, Progress, step_cost
from tiltcli.execution.runner import Stored
from tiltcli.execution.train_job import Task, failed
from tiltcli.grid import Job
from tiltcli.grid.settings import PATHS
from tiltcli.store import Finished, RunWriter
from tiltcli.store.read import read_jobs
from tiltcli.store.spool import setting_columns


class ClusterTrainer:
    """Trains a sweep's jobs on a Dask cluster; use as a context manager.

    Workers that see the run's folder write their tables there, as parts of their own; the others
    send them back, and they are written here. Data files are not sent: their paths must lead to
    the same content on every worker.

    Args:
        address: of the scheduler, such as tcp://host:8786.
        send_tables: have all tables sent back, whatever the workers see.

    Raises:
        UserError: for an address that is none or does not answer.

    """

    def __init__(self, address: str, send_tables: bool = False) -> None:
        self._connection = Connection(address)
        self._send_tables = send_tables

    def __enter__(self) -> Self:
        """Connect."""
        self._connection.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        """Disconnect; the cluster stays up."""
        self._connection.__exit__(*exception)

    def check(self, jobs: Sequence[Job], engines: Mapping[str, str]) -> None:
        """Check that the workers there are can train the jobs.

        Propagates `UserError` naming every worker that cannot, and why.
        """
        request = self._requirements(jobs, set(engines.values()), None)
        check_workers(self._connection, worker.handshake, request)

    def __call__(
        self, tasks: Iterable[Task], writer: RunWriter, progress: Progress, stopped: Stopped
    ) -> Generator[Finished | Stored | None, None, None]:
        """Train jobs; yield each as it ends, those that are on disk already as `Stored`."""
        todo = list(tasks)  # of one engine, and probed alike
        if not todo or stopped():
            return
        token, connection = self._connection.token, self._connection
        probe = writer.folder / f".{token}.tmp"
        folder = writer.folder.resolve()

        def pack(batch: Sequence[Task], info: Mapping[str, Any], name: str) -> str:
            return json.dumps(
                {
                    "token": token,
                    "batch": name,
                    "process": info["process"],
                    "jobs": pack_jobs([task.job for task in batch]),
                    "engine": batch[0].engine,
                    "probe": None if batch[0].probe is None else asdict(batch[0].probe),
                    "checkpoint_seconds": (
                        None if batch[0].checkpoint is None else batch[0].checkpoint_seconds
                    ),
                    "folder": str(folder) if info["shared"] else None,
                }
            )

        def recover(batch: Sequence[Task]) -> tuple[Sequence[Task], Mapping[str, Any]]:
            """Find jobs of a lost batch that were written all the same."""
            kept = {job for job, how in writer.outcomes().items() if how != Outcome.FAILED}
            finished = [task for task in batch if task.job.id in kept]
            if not finished:
                return [], {}
            stored = read_jobs(writer.folder).to_dict("records")
            rows: dict[str, Any] = {row["job"]: row for row in stored}
            written = [rows[task.job.id] for task in finished]
            unsaved = [""] * len(written)
            return finished, {"rows": written, "unsaved": unsaved, "metrics": None, "probes": None}

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
            recover,
        )
        run = ClusterRun(
            connection,
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
                    yield from _results(done.task, done.result)
        finally:
            probe.unlink(missing_ok=True)

    def _requirements(self, jobs: Sequence[Job], engines: set[str], probe: Path | None) -> str:
        files = {
            job.files[key]: job[digest]
            for job in jobs
            for key, digest in PATHS.items()
            if job.files.get(key) and job.get(digest) and Path(job.files[key]).is_file()
        }
        return json.dumps(
            {
                "versions": versions(),
                "files": files,
                "engines": sorted(engines),
                "probe": None if probe is None else str(probe),
            }
        )


def _results(tasks: Sequence[Task], reply: Mapping[str, Any]) -> Iterator[Finished | Stored | None]:
    sent = None if reply["metrics"] is None else blocks_of(reply["metrics"])
    probes = {} if reply["probes"] is None else probes_of(reply["probes"])
    for task, row, unsaved in zip(tasks, reply["rows"], reply["unsaved"], strict=True):
        if row is None:
            yield None
            continue
        whole = {**setting_columns(task.job), **row}
        if sent is None:
            yield Stored(whole, unsaved)
        else:
            blocks = sent.get(task.job.id, [])
            rows = sum(len(block.epoch) for block in blocks)
            yield Finished(whole, blocks, rows, probes.get(task.job.id, []))
