"""One job of a run with what is needed to look at it step by step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from tiltcli.analysis.instability import Thresholds
from tiltcli.analysis.pulses import Curvature, Instability, instabilities
from tiltcli.curvature.stability import Bound, stability_bound
from tiltcli.data import dataset_of
from tiltcli.engines.base import schedule_of, steps_per_epoch, total_steps
from tiltcli.errors import UserError
from tiltcli.grid import Job, load_run
from tiltcli.schedule import Schedule
from tiltcli.store.read import Tables


@dataclass(frozen=True)
class Trace:
    """What is known of one job, step by step."""

    job: Job
    metrics: pd.DataFrame  # its rows of the metrics table, by epoch
    probes: pd.DataFrame  # its rows of the probes table; may be empty
    schedule: Schedule | None  # its class weights; None for a static job
    classes: int
    samples: int  # for training
    title: str  # what to say about it
    labels: tuple[str, ...] = ()  # names of the classes

    @property
    def lr(self) -> float:
        """Learning rate η, before its schedule."""
        return float(self.job["train.lr"])

    @property
    def bound(self) -> Bound | None:
        """What the optimiser is unstable above; None where theory has none."""
        return stability_bound(self.job.settings)

    @property
    def bounds(self) -> npt.NDArray[np.float64]:
        """The bound at each probe, whose learning rate may differ; NaN where there is none."""
        rates = (
            self.probes["lr"].to_numpy(float)
            if "lr" in self.probes
            else [self.lr] * len(self.probes)
        )
        return np.array([self.bound.at(rate) if self.bound else np.nan for rate in rates])

    @property
    def curvature(self) -> Curvature | None:
        """What the bound is for, along the way; None if it was not probed or there is no bound."""
        if self.bound is None or self.bound.column not in self.probes:
            return None
        heights = self.probes[self.bound.column].to_numpy(np.float64)
        if np.isnan(heights).all():
            return None
        return Curvature(self.probes["step"].to_numpy(np.int64), heights, self.bounds)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""
        return steps_per_epoch(self.job, self.samples)

    def why_not_single_steps(self) -> str | None:
        """Why there is no loss of every single step; None if there is."""
        if self.steps_per_epoch > 1:
            return (
                f"an epoch is several steps (train.batch_size = {self.job['train.batch_size']}), "
                "and losses are measured once an epoch; "
                'only train.batch_size = "full" has one for every step'
            )
        every = int(self.job["train.log_every"])
        if every > 1:
            return (
                f"only every {every}th was kept (train.log_every = {every}); "
                "train.log_every = 1 keeps them all, as in "
                "tiltcli sweep GRID --set name=NAME --set train.log_every=1"
            )
        return None

    def step_losses(self) -> npt.NDArray[np.float64]:
        """Return F at steps 0, 1, 2, …; `UserError` if not every step's loss was kept."""
        reason = self.why_not_single_steps()
        if reason is not None:
            raise UserError(f"job {self.job.id}: the losses of single steps are needed; {reason}")
        return self.metrics["dynamical_loss"].to_numpy(np.float64)

    def instabilities(self, thresholds: Thresholds | None = None) -> list[Instability]:
        """Instabilities of the training; `UserError` if not every step's loss was kept."""
        return instabilities(self.step_losses(), self.schedule, self.curvature, thresholds)


def pick(folder: Path, tables: Tables, *, dynamical: bool = False) -> Trace:
    """Return the first dynamical one of the jobs; where none is, and none must be, the first."""
    jobs = tables.jobs
    chosen = jobs[jobs["loss.kind"] == "dynamical"]
    if chosen.empty:
        if dynamical:
            raise UserError(f"{tables.name}: the class weights of a static job do not change")
        chosen = jobs
    return traces_of(folder, tables, [str(chosen["job"].iloc[0])])[0]


def jobs_of(folder: Path, wanted: list[str]) -> list[Job]:
    """Return jobs of a run by their ids, in that order."""
    known = {job.id: job for job in load_run(folder).jobs}
    for one in wanted:
        if one not in known:
            raise UserError(
                f"{folder}/sweep.toml does not lead to job {one}: were files that it names changed?"
            )
    return [known[one] for one in wanted]


def traces_of(folder: Path, tables: Tables, wanted: list[str]) -> list[Trace]:
    """Trainings of a run by the ids of their jobs, in that order."""
    return [trace_of(tables, job) for job in jobs_of(folder, wanted)]


def trace_of(tables: Tables, job: Job) -> Trace:
    """Metrics, probes and schedule of a job."""
    data = dataset_of(job)
    metrics = tables.metrics[tables.metrics["job"] == job.id].reset_index(drop=True)
    probes = tables.probes[tables.probes["job"] == job.id].reset_index(drop=True)
    schedule = schedule_of(job, data.classes, total_steps(job, len(data.train)))
    what = "static"
    if schedule is not None:
        what = f"A = {schedule.amplitude:g}, T = {schedule.period}"
    title = (
        f"{tables.name}: width {job['model.width']}, {what}, η = {job['train.lr']:g}, "
        f"seed {job['train.seed']}"
    )
    return Trace(job, metrics, probes, schedule, data.classes, len(data.train), title, data.labels)
