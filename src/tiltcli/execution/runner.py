"""A sweep: the jobs that are missing, trained in parallel and stored as they finish."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from tiltcli.data import dataset_of
from tiltcli.engines.base import total_steps
from tiltcli.errors import Outcome
from tiltcli.execution.checks import RunOptions, at_once, check_run
from tiltcli.execution.local import train
from tiltcli.execution.progress import Progress, step_cost
from tiltcli.execution.train_job import Task
from tiltcli.grid import Job, ProbeSettings, Sweep
from tiltcli.store import Finished, RunWriter
from tiltcli.store.probe_rows import missing_epochs
from tiltcli.store.read import last_probed_epochs, read_jobs, read_probes
from tiltcli.store.weights import checkpoint_path, checkpointed, remove_checkpoints

if TYPE_CHECKING:
    from tiltcli.execution.dask import ClusterTrainer


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        ended = [f"{number} {outcome}" for outcome, number in self.ended.items() if number]
        before = [f"{self.before} done before"] * bool(self.before)
        said = ", ".join([*ended, *before, *["interrupted"] * self.interrupted]) or "nothing to do"
        return f"<{self.folder}: {self.total} jobs: {said}; {self.seconds:.1f} s>"

    def _repr_html_(self) -> str:
        lines = [repr(self).strip("<>"), *self.notes]
        lines += [f"failed {job}: {error}" for job, error in list(self.failures.items())[:5]]
        return "<br>".join(map(escape, lines))


@dataclass(frozen=True)
class Plan:
    """What there is to do."""

    sweep: Sweep  # the validated grid
    options: RunOptions  # how it is run
    engines: Mapping[str, str]  # engine of each job, by id
    outcomes: Mapping[str, str]  # outcomes of the jobs that ended before, by id

    @cached_property
    def jobs(self) -> Sequence[Job]:
        """Jobs of this share."""
        return self.options.jobs_of(self.sweep)

    @cached_property
    def todo(self) -> list[Job]:
        """Jobs of this share that are to be trained now."""
        again = {None, Outcome.FAILED} if self.options.retry_failed else {None}
        return [job for job in self.jobs if self.outcomes.get(job.id) in again]


def run_sweep(
    sweep: Sweep,
    results: Path,
    options: RunOptions | None = None,
    *,
    trainer: ClusterTrainer | None = None,
    command: Sequence[str] = (),
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> Summary:
    """Return what a sweep did: its jobs that were not done are trained, to `results/<name>/`.

    `trainer` trains them elsewhere than on this machine; the command line is for the provenance;
    progress is filled in for a display; `stop` is set to stop cleanly. Propagates `UserError`.
    """
    started = time.monotonic()
    options = options or RunOptions()
    progress = progress if progress is not None else Progress()
    stop = stop if stop is not None else threading.Event()
    folder = results / sweep.name
    engines = check_run(sweep, folder, options, trainer)
    with RunWriter(folder, sweep, command, options.fresh, options.shard, options.extend) as writer:
        plan = Plan(sweep, options, engines, writer.outcomes())
        if sweep.probe is not None and plan.outcomes:
            _note_unprobed(writer, sweep.probe)
        _execute(plan, writer, trainer, progress, stop)
        writer.commit()
        lost = [*plan.outcomes.values(), *progress.ended].count(Outcome.FAILED)
        failures = _failures(writer, {job.id for job in plan.jobs}) if lost else {}
    return Summary(
        folder=folder,
        total=progress.total,
        before=progress.before,
        ended=progress.ended,
        failures=failures,
        interrupted=stop.is_set() and progress.done < progress.total,
        seconds=time.monotonic() - started,
        steps=progress.steps,
        notes=tuple(writer.notes),
    )


def _execute(
    plan: Plan,
    writer: RunWriter,
    trainer: ClusterTrainer | None,
    progress: Progress,
    stop: threading.Event,
) -> None:
    """Train what is to be trained, and hand it to the writer as it ends."""
    # The longest first, so that no core is left with a long one at the end.
    updates = {  # of most jobs the data need not be asked
        job.id: total_steps(
            job, 1 if job["train.batch_size"] == "full" else len(dataset_of(job).train)
        )
        for job in plan.todo
    }
    todo = sorted(plan.todo, key=lambda job: -updates[job.id] * step_cost(job))
    progress.remaining.workers = 1 if trainer is not None else at_once(plan.options.workers)
    progress.total, progress.before = len(plan.jobs), len(plan.jobs) - len(todo)
    probe = plan.sweep.probe
    for job in todo:
        probes = len(probe.due(int(job["train.epochs"]))) if probe else 0
        progress.expect(job, plan.engines[job.id], updates[job.id], probes)
    remove_checkpoints(writer.folder, [j for j, o in plan.outcomes.items() if o != Outcome.FAILED])
    saved = checkpointed(writer.folder)
    tasks = [_task(plan, job, writer) for job in todo]
    options, patient = plan.options, not plan.options.fail_fast
    ended = train(tasks, writer, options.workers, trainer, progress, stop, patient=patient)
    with closing(ended):
        for one in ended:
            writer.add(one)
            # The fused engine saves none; an earlier run, by torch, may have.
            if one.row["engine"] != "fused" or one.row["job"] in saved:
                _remove_checkpoint(writer, one)
            progress.end(one.row)
            failed = one.row["outcome"] == Outcome.FAILED
            if failed and options.fail_fast and not stop.is_set():
                writer.notes.append("stopped at the first failure, as --fail-fast says")
                stop.set()  # those under way end as at Ctrl-C, their checkpoints saved


def _task(plan: Plan, job: Job, writer: RunWriter) -> Task:
    engine, probe = plan.engines[job.id], plan.sweep.probe
    # Probes made so far are not in a checkpoint: a probed job runs again from its start.
    kept = engine != "fused" and probe is None
    return Task(
        job,
        engine,
        writer.folder / "metrics",
        writer.name,
        probe,
        device=plan.options.device,
        checkpoint=checkpoint_path(writer.folder, job.id) if kept else None,
        checkpoint_seconds=plan.options.checkpoint_seconds,
    )


def _remove_checkpoint(writer: RunWriter, ended: Finished) -> None:
    """Remove the checkpoint of a job that ended, once its row is on disk."""
    if ended.unsaved and not any("checkpoints" in note for note in writer.notes):
        folder = checkpoint_path(writer.folder, "").parent
        writer.notes.append(
            f"{folder}: checkpoints could not be saved ({ended.unsaved}); "
            "the jobs were trained all the same"
        )
    job = str(ended.row["job"])
    done = ended.row["outcome"] != Outcome.FAILED
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


def _failures(writer: RunWriter, ids: set[str]) -> dict[str, str]:
    """Last line of the error of every failed job among these."""
    jobs = read_jobs(writer.folder, ["error"])
    failed = jobs[(jobs["outcome"] == Outcome.FAILED) & jobs["job"].isin(ids)]
    return {
        job: str(error).strip().splitlines()[-1]
        for job, error in zip(failed["job"], failed["error"], strict=True)
    }
