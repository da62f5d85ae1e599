"""One job of a run with what is needed to look at it step by step."""

from __future__ import annotations

from pathlib import Path

from tiltcli.data import dataset_of
from tiltcli.engines.base import schedule_of
from tiltcli.plots.trace import Trace
from tiltcli.records import UserError
from tiltcli.runner import total_steps
from tiltcli.spec import Job, load_sweep
from tiltcli.store.read import Tables


def pick(folder: Path, tables: Tables, *, dynamical: bool) -> Job:
    """Choose the first job of the tables, by the order of the jobs table.

    Args:
        folder: of the run.
        tables: its tables, perhaps narrowed to the jobs that were asked for.
        dynamical: whether only a dynamical job will do; else one is preferred.

    Raises:
        UserError: if there is no such job, or the run's grid no longer has it.

    """
    jobs = tables.jobs
    chosen = jobs[jobs["loss.kind"] == "dynamical"]
    if chosen.empty:
        if dynamical:
            raise UserError(f"{tables.name}: the class weights of a static job do not change")
        chosen = jobs
    wanted = str(chosen["job"].iloc[0])
    for job in load_sweep(folder / "sweep.toml").jobs:
        if job.id == wanted:
            return job
    raise UserError(
        f"{folder}/sweep.toml does not lead to job {wanted}: were files that it names changed?"
    )


def trace_of(tables: Tables, job: Job) -> Trace:
    """Metrics, probes and schedule of a job."""
    data = dataset_of(job)
    metrics = tables.metrics[tables.metrics["job"] == job.id].reset_index(drop=True)
    probes = tables.probes[tables.probes["job"] == job.id].reset_index(drop=True)
    if len(probes) and "step" not in probes:
        probes = probes.merge(metrics[["epoch", "step"]], on="epoch")
    schedule = schedule_of(job, data.classes, total_steps(job, len(data.train)))
    what = "static"
    if schedule is not None:
        what = f"A = {schedule.amplitude:g}, T = {schedule.period}"
    title = (
        f"{tables.name}: width {job['model.width']}, {what}, η = {job['train.lr']:g}, "
        f"seed {job['train.seed']}"
    )
    return Trace(metrics, probes, schedule, data.classes, float(job["train.lr"]), title)
