"""A sweep: the jobs that are missing, trained in parallel and stored as they finish."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from tiltcli.curvature.memory import memory_faults
from tiltcli.data import Dataset, dataset_of, download_of
from tiltcli.engines import choose_engine, load_engine
from tiltcli.engines.base import CHECKPOINT_SECONDS, total_steps
from tiltcli.engines.machine import cores
from tiltcli.engines.torch.devices import check_device
from tiltcli.errors import Fault, Outcome, UserError
from tiltcli.execution.batching import Batches
from tiltcli.execution.executors import run_processes, run_threads
from tiltcli.execution.progress import Advance, Progress, step_cost
from tiltcli.execution.train_job import Task, failed, train_batch, train_job
from tiltcli.grid import Job, ProbeSettings, Sweep
from tiltcli.grid.settings import data_settings, network_settings, probing_settings
from tiltcli.grid.shards import Shard
from tiltcli.networks.initial import check_network, parameter_shapes
from tiltcli.store import Finished, RunWriter
from tiltcli.store.checkpoint_files import checkpoint_path, checkpointed, remove_checkpoints
from tiltcli.store.parts import Unwritable
from tiltcli.store.probe_rows import missing_epochs
from tiltcli.store.read import last_probed_epochs, read_jobs, read_probes


@dataclass(frozen=True)
class Summary:
    """What a sweep did.

    Attributes:
        folder: of the run.
        total: jobs of the sweep.
        before: of them, finished by earlier runs.
        ended: jobs ended now, by outcome.
        failures: job id → last line of its error, of all failed jobs of the run.
        interrupted: whether it was stopped before the end.
        seconds: wall time.
        steps: optimiser updates made now.
        notes: what the user should know.

    """

    folder: Path
    total: int
    before: int
    ended: Counter[str]
    failures: dict[str, str]
    interrupted: bool
    seconds: float
    steps: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Stored:
    """A job that ended and is on disk already: its row, and why it could not be checkpointed."""

    row: Mapping[str, Any]
    unsaved: str = ""


class Trainer(Protocol):
    """What trains jobs elsewhere than on this machine."""

    def check(self, jobs: Sequence[Job], engines: Mapping[str, str]) -> None:
        """Check that jobs can be trained there, by their engines; raise UserError if not."""

    def __call__(
        self,
        tasks: Iterable[Task],
        writer: RunWriter,
        progress: Progress,
        stopped: Callable[[], bool],
    ) -> Iterator[Finished | Stored | None]:
        """Train jobs; yield each as it ends, None for one that was interrupted."""


class _Stop(Exception):
    """--fail-fast: a job failed."""


def check(sweep: Sweep, engine: str, *, fetch: bool = True) -> dict[str, str]:
    """Check all that can be checked before anything is written.

    Args:
        sweep: the validated grid.
        engine: auto, fused or torch.
        fetch: whether data that are not here are fetched; otherwise they are not looked at.

    Returns:
        the engine of each job, by id.

    Raises:
        UserError: with every fault of the data, the weights' files and the engine.

    """
    faults: dict[str, Fault] = {}
    engines: dict[str, str] = {}
    seen: set[tuple[Any, ...]] = set()
    # Jobs that agree on these need be checked once.
    probed = probing_settings() if sweep.probe is not None else ()
    alike = tuple(dict.fromkeys((*data_settings(), *network_settings(), *probed)))
    for job in sweep.jobs:
        try:
            engines[job.id] = choose_engine(engine, job)
            key = tuple([str(job.get(name)) for name in alike])
            if key in seen:
                continue
            seen.add(key)
            if not fetch and download_of(job) is not None:
                continue
            data = dataset_of(job)
            check_network(job, data.train.X.shape[1:], data.classes)
            if sweep.probe is not None:
                check_probe(sweep.probe, job, data)
        except UserError as error:
            faults.update({str(fault): fault for fault in error.faults})
    if faults:
        raise UserError(*faults.values())
    return engines


def check_probe(
    settings: ProbeSettings,
    job: Job,
    data: Dataset,
    option: Callable[[str], str] = "probe.{}".format,
) -> None:
    """Check what to probe against a job's data and network.

    Args:
        settings: what to probe.
        job: the job.
        data: its data.
        option: how the user knows a key of [probe].

    Raises:
        UserError: if there are fewer training points than the tangent kernel is asked on, or a
            probe would take more memory than there is.

    """
    samples, points = len(data.train), settings.ntk_points
    if points is not None and points > samples:
        said = f"got {points}; there are {samples} training points"
        raise UserError(Fault(said, key=option("ntk_points")))
    shapes = list(parameter_shapes(job, data.train.X.shape[1:], data.classes).values())
    if faults := memory_faults(job, samples, data.classes, shapes, settings, option):
        raise UserError(*faults)


def run_sweep(
    sweep: Sweep,
    results: Path,
    *,
    engine: str = "auto",
    workers: int | None = None,
    retry_failed: bool = False,
    fail_fast: bool = False,
    fresh: bool = False,
    extend: bool = False,
    shard: Shard | None = None,
    trainer: Trainer | None = None,
    device: str = "auto",
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    command: Sequence[str] = (),
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> Summary:
    """Train the jobs of a sweep that are not done yet.

    Args:
        sweep: the validated grid.
        results: folder of all runs; this one goes to `results/<name>/`.
        engine: auto, fused or torch.
        workers: jobs trained at once; default: one per core.
        retry_failed: run failed jobs again too.
        fail_fast: stop at the first failed job.
        fresh: remove an earlier run of this name first.
        extend: whether an earlier run of another grid grows by this one's jobs.
        shard: which share of the jobs to train; None for all.
        trainer: trains them elsewhere; None for this machine.
        device: where torch trains: auto, cpu or cuda; not part of a job's identity.
        checkpoint_seconds: time between two checkpoints of a job that torch trains.
        command: command line, for the provenance.
        progress: filled in as the sweep goes, for a display.
        stop: set it to stop cleanly.

    Returns:
        what was done.

    Raises:
        UserError: for faults in data or files, a run in use, a full disk.

    """  # noqa: DOC501 - _Stop does not leave it
    started = time.monotonic()
    progress = progress if progress is not None else Progress()
    stop = stop if stop is not None else threading.Event()
    if trainer is None:
        check_device(device)
    elif device != "auto":
        raise UserError("device is for this machine; with cluster every worker has its own")
    engines = check(sweep, engine)
    workers = workers or cores()
    jobs = shard.of(sweep.jobs) if shard else sweep.jobs
    if shard and fresh:
        raise UserError("--fresh with --shard would remove what the other shards have done")
    if trainer is not None:
        trainer.check(jobs, engines)
    with RunWriter(results / sweep.name, sweep, command, fresh, shard, extend) as writer:
        outcomes = writer.outcomes()
        again = {job.id for job in jobs if outcomes.get(job.id) == Outcome.FAILED}
        skip = set(outcomes) - (again if retry_failed else set())
        todo = [job for job in jobs if job.id not in skip]
        # The longest first, so that no core is left with a long one at the end.
        updates = {job.id: total_steps(job, _samples(job)) for job in todo}
        todo.sort(key=lambda job: -updates[job.id] * step_cost(job))
        if sweep.probe is not None and skip:
            _note_unprobed(writer, sweep.probe)
        progress.remaining.workers = 1 if trainer is not None else workers
        progress.total = len(jobs)
        progress.before = len(jobs) - len(todo)
        for job in todo:
            steps = updates[job.id]
            probes = len(sweep.probe.due(int(job["train.epochs"]))) if sweep.probe else 0
            progress.expect(job, engines[job.id], steps, probes)
        spool = writer.folder / "metrics"
        unfinished = {job for job, outcome in outcomes.items() if outcome == Outcome.FAILED}
        remove_checkpoints(writer.folder, set(outcomes) - unfinished)
        saved = checkpointed(writer.folder)

        def task(job: Job, threads: int) -> Task:
            engine, path = engines[job.id], None
            # Probes made so far are not in a checkpoint: a probed job runs again from its start.
            if engine != "fused" and sweep.probe is None:
                path = checkpoint_path(writer.folder, job.id)
            how = (spool, writer.name, sweep.probe, threads, device, path, checkpoint_seconds)
            return Task(job, engine, *how)

        stopped = stop.is_set
        try:
            for name in ("fused", "torch"):
                mine = [job for job in todo if engines[job.id] == name]
                threads = max(1, workers // max(1, len(mine)))
                tasks = (task(job, threads) for job in mine)
                ended: Iterator[Finished | Stored | None] = (
                    trainer(tasks, writer, progress, stopped)
                    if trainer is not None
                    else run_tasks(name, tasks, len(mine), workers, progress, stopped)
                )
                for finished in ended:
                    if finished is None:
                        continue
                    if isinstance(finished, Finished):
                        writer.add(finished)
                    # The fused engine saves none; an earlier run, by torch, may have.
                    if finished.row["engine"] != "fused" or finished.row["job"] in saved:
                        _let_go(writer, finished)
                    progress.end(finished.row)
                    if fail_fast and finished.row["outcome"] == Outcome.FAILED:
                        raise _Stop
                if stop.is_set():
                    break
        except _Stop:
            stop.set()
            stopped_early = "stopped at the first failure, as --fail-fast says"
            writer.notes.append(stopped_early)
        except BaseException:
            stop.set()
            raise
        writer.commit()
        failed_some = again or progress.ended[Outcome.FAILED]
        failures = _failures(writer, {job.id for job in jobs}) if failed_some else {}
    interrupted = stop.is_set() and progress.done < progress.total
    return Summary(
        results / sweep.name,
        progress.total,
        progress.before,
        progress.ended,
        failures,
        interrupted,
        time.monotonic() - started,
        progress.steps,
        tuple(writer.notes),
    )


def _samples(job: Job) -> int:
    """Training samples, so far as steps depend on them: of most jobs the data need not be asked."""
    return 1 if job["train.batch_size"] == "full" else len(dataset_of(job).train)


def _let_go(writer: RunWriter, finished: Finished | Stored) -> None:
    """Remove the checkpoint of a job that ended, once its row is on disk."""
    if finished.unsaved and not any("checkpoints" in note for note in writer.notes):
        folder = checkpoint_path(writer.folder, "").parent
        writer.notes.append(
            f"{folder}: checkpoints could not be saved ({finished.unsaved}); "
            "the jobs were trained all the same"
        )
    job = str(finished.row["job"])
    done = finished.row["outcome"] != Outcome.FAILED
    if done and checkpoint_path(writer.folder, job).exists():
        writer.commit()
        remove_checkpoints(writer.folder, [job])


def _note_unprobed(writer: RunWriter, settings: ProbeSettings) -> None:
    """Say how many finished jobs lack probes that the grid asks for."""
    ended = last_probed_epochs(read_jobs(writer.folder))
    missing = missing_epochs(read_probes(writer.folder), ended, settings)
    if missing:
        writer.notes.append(
            f"{len(missing)} finished jobs lack probes that [probe] asks for; "
            f"tiltcli probe {writer.folder.name} adds them"
        )


def run_tasks(
    engine: str,
    tasks: Iterator[Task],
    count: int,
    workers: int,
    progress: Progress,
    stopped: Callable[[], bool],
) -> Iterator[Finished | None]:
    """Run one engine's tasks; None for a job that was interrupted."""
    first = next(tasks, None)
    if first is None or stopped():
        return
    remaining = (task for some in ((first,), tasks) for task in some)
    wanted = (task for task in remaining if not stopped())

    def report(task: Task, advance: Advance) -> None:
        progress.add(task.job, advance)

    if engine == "torch":
        yield from _from_processes(wanted, count, workers, progress, stopped)
        return
    load_engine(engine)  # compile once, before the threads race to it
    work: Callable[..., Finished | Unwritable | None] = train_job
    with ExitStack() as stack:
        if first.probe is not None:
            pool = ThreadPoolExecutor(workers, thread_name_prefix="probe")
            work = partial(train_job, executor=stack.enter_context(pool))
        for one in run_threads(work, wanted, workers, stopped, report):
            # An error here: the machinery around the job failed.
            yield _stored(one.result) if one.error is None else failed(one.task, one.error)


def _from_processes(
    tasks: Iterator[Task],
    count: int,
    workers: int,
    progress: Progress,
    stopped: Callable[[], bool],
) -> Iterator[Finished | None]:
    """Run tasks in processes, tiny ones in batches."""

    def report(batch: tuple[Task, ...], advance: tuple[int, Advance]) -> None:
        progress.add(batch[advance[0]].job, advance[1])

    batches = Batches(tasks, count, workers)
    for one in run_processes(train_batch, batches, workers, stopped, report):
        if one.error is None:
            results = one.result or []
            done = [result for result in results if isinstance(result, Finished)]
            batches.took(len(done), sum(result.row["seconds"] for result in done))
            yield from map(_stored, results)
        elif len(one.task) > 1:
            batches.again(one.task)  # whichever of them it was, the others are not to blame
        else:
            yield failed(one.task[0], one.error)


def _stored(result: Finished | Unwritable | None) -> Finished | None:
    if isinstance(result, Unwritable):
        raise result
    return result


def _failures(writer: RunWriter, ids: set[str]) -> dict[str, str]:
    """Last line of the error of every failed job among these."""
    jobs = read_jobs(writer.folder, ["error"])
    failed = jobs[(jobs["outcome"] == Outcome.FAILED) & jobs["job"].isin(ids)]
    return {
        job: str(error).strip().splitlines()[-1]
        for job, error in zip(failed["job"], failed["error"], strict=True)
    }
