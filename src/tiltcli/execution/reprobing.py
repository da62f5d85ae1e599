"""Probes for a run that is finished: its jobs are trained again, and measured on the way.

A job's training is the same every time, so its weights at any epoch can be had again. That it was
the same is checked: what the training ends with must be what the run holds, to the last bit.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from tiltcli.data import dataset_of
from tiltcli.engines.base import total_steps
from tiltcli.errors import RESULT_COLUMNS, Fault, Outcome, UserError, each, listing
from tiltcli.evaluation.selection import parse_selection, select
from tiltcli.execution.checks import at_once, check_derivative, check_probe, worker_faults
from tiltcli.execution.local import train
from tiltcli.execution.progress import Progress, step_cost
from tiltcli.execution.train_job import Task
from tiltcli.grid import ProbeSettings, load_run
from tiltcli.store import Finished, RunWriter
from tiltcli.store.probe_rows import missing_epochs
from tiltcli.store.read import find_run, last_probed_epochs, read_jobs, read_probes

if TYPE_CHECKING:
    from tiltcli.execution.dask import ClusterTrainer

# What a training that is done again must have again: all that it measured, but its time.
_SAME = (
    "outcome",
    *(one.name for one in RESULT_COLUMNS if one.type != "string" and one.name != "seconds"),
)


SHOWN = 10


@dataclass(frozen=True)
class Reprobed:
    """What `probe_run` did."""

    folder: Path  # of the run
    jobs: int  # jobs that have new probes
    probes: int  # new rows
    before: int  # jobs of the selection that had all that was asked for
    refused: Mapping[str, str]  # job → why it has no new probes
    interrupted: bool  # whether it was stopped before the end
    notes: tuple[str, ...]  # what the user should know


def chosen_jobs(folder: Path, where: Sequence[str], job: str | None) -> pd.DataFrame:
    """Return the rows of the jobs that meet all conditions and whose id begins so; none failed."""
    jobs = read_jobs(folder)
    if jobs.empty:
        raise UserError(f"{folder.name}: no job has finished yet: there is nothing to train again")
    jobs = select(jobs, [c for text in where for c in parse_selection(text)], folder.name)
    if job is not None:
        known = list(jobs["job"])
        jobs = jobs[jobs["job"].str.startswith(job)]
        if jobs.empty:
            raise UserError(f"--job: no job {job} in {folder.name}; there are {listing(known, 6)}")
    ended = jobs[jobs["outcome"] != Outcome.FAILED]
    if ended.empty:
        raise UserError(f"{folder.name}: every job chosen failed: there is no training of it")
    return ended


def only_row(folder: Path, rows: pd.DataFrame, job: str | None, otherwise: str = "") -> pd.Series:
    """Return the one row that is left of those chosen by `job`, or say what else could be given."""
    if len(rows) > 1:
        known = listing(list(rows["job"]), 6)
        problem = f"{job} begins" if job else f"missing, as {folder.name} has"
        raise UserError(f"--job: {problem} {len(rows)} jobs; give one of {known}{otherwise}")
    return rows.iloc[0]


def check_epochs(jobs: pd.DataFrame, settings: ProbeSettings) -> None:
    """Refuse epochs that a job chosen does not reach, naming each such job."""
    if not settings.epochs:
        return
    last = last_probed_epochs(jobs)
    faults = []
    for job, outcome, epochs in zip(jobs["job"], jobs["outcome"], jobs["epochs"], strict=True):
        beyond = [epoch for epoch in settings.epochs if epoch > last[job]]
        if not beyond:
            continue
        why = f"job {job} ends at epoch {int(epochs)}; allowed: 0 to {last[job]}"
        if outcome == Outcome.DIVERGED:
            upto = f"allowed: 0 to {last[job]}" if last[job] >= 0 else "it cannot be probed"
            why = f"job {job} diverged at epoch {int(epochs)}; {upto}"
        faults.append(Fault(f"got {listing(beyond)}; {why}", key="--epochs"))
    if faults[SHOWN:]:
        faults[SHOWN:] = [Fault(f"… {len(faults)} jobs in all", key="--epochs")]
    if faults:
        raise UserError(*faults)


def probe_run(
    run: str | Path,
    settings: ProbeSettings,
    *,
    results: Path = Path("results"),
    where: Sequence[str] = (),
    job: str | None = None,
    workers: int | None = None,
    trainer: ClusterTrainer | None = None,
    command: Sequence[str] = (),
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> Reprobed:
    """Return what was added to a run's probes; what is there already is not made again.

    Of the jobs that meet the conditions `where`, and whose id begins with `job`; other arguments
    are as of `run_sweep`.

    Raises:
        UserError: for an unknown run or job, epochs that a job does not reach, a run in use.

    """
    progress = progress if progress is not None else Progress()
    stop = stop if stop is not None else threading.Event()
    if faults := worker_faults(workers):
        raise UserError(*faults)
    folder = find_run(run, results)
    rows = chosen_jobs(folder, where, job)
    check_epochs(rows, settings)
    sweep = load_run(folder)
    by_id = {one.id: one for one in sweep.jobs}
    stored: dict[str, Mapping[Any, Any]] = {row["job"]: row for row in rows.to_dict("records")}
    refused = {
        name: "sweep.toml no longer leads to it: were files that it names changed?"
        for name in stored
        if name not in by_id
    }
    known = {name: row for name, row in stored.items() if name in by_id}

    def check(name: str) -> None:
        one = by_id[name]
        check_probe(settings, one, dataset_of(one), _option)
        check_derivative(settings, one, str(known[name]["engine"]), _option)

    each(check, known)
    if trainer is not None:
        if workers is not None:
            raise UserError("--workers: of no use with --cluster, whose workers train the jobs")
        engines = {name: str(row["engine"]) for name, row in known.items()}
        trainer.check([by_id[name] for name in known], engines)
    probed = added = 0
    with RunWriter(folder, sweep, command) as writer:
        last = last_probed_epochs(rows)
        missing = missing_epochs(read_probes(folder), last, settings)
        tasks = [
            Task(
                by_id[name],
                str(known[name]["engine"]),
                folder / "metrics",
                writer.name,
                replace(settings, every=None, epochs=tuple(epochs)),
            )
            for name, epochs in missing.items()
            if name in known
        ]
        # The longest first.
        tasks.sort(key=lambda task: -int(task.job["train.epochs"]) * step_cost(task.job))
        progress.remaining.workers = at_once(workers)
        progress.total = len(tasks)
        for task in tasks:
            assert task.probe is not None
            steps = total_steps(task.job, len(dataset_of(task.job).train))
            progress.expect(task.job, task.engine, steps, len(task.probe.epochs))
        with closing(train(tasks, writer, workers, trainer, progress, stop)) as ended:
            for done in ended:
                name = str(done.row["job"])
                if isinstance(done.metrics, Path):
                    done.metrics.unlink(missing_ok=True)
                if reason := _difference(done, stored[name]):
                    refused[name] = reason
                else:
                    writer.add_probes(done.probes)
                    probed, added = probed + 1, added + len(done.probes)
                progress.end(done.row)
    short = stop.is_set() and progress.done < progress.total
    before = len(stored) - len(missing)
    return Reprobed(folder, probed, added, before, refused, short, tuple(writer.notes))


def _option(key: str) -> str:
    return "--" + key.replace("_", "-")


def _difference(done: Finished, stored: Mapping[Any, Any]) -> str | None:
    """Say how a training differs from the one stored; None if it does not."""
    if done.row["outcome"] == Outcome.FAILED:
        return "failed: " + str(done.row["error"]).strip().splitlines()[-1]
    for key in _SAME:
        new, old = done.row.get(key), stored.get(key)
        # Earlier versions had none, or of equal classes the mean of recalls with its rounding.
        if key.endswith("balanced_accuracy") and (
            pd.isna(old) or abs(float(new or 0) - float(old)) < 1e-12
        ):
            continue
        if new != old and not (pd.isna(new) and pd.isna(old)):
            return (
                f"trained again it has {key} = {new}, the run holds {old}: not the same training "
                "(another version or machine?), so its probes are not kept"
            )
    return None
