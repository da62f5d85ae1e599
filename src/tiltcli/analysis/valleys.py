"""Valleys of a training: shapes through one pulse, width and floor through several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tiltcli.analysis.retraining import weights_at
from tiltcli.analysis.slices import Slice, Slicer, phase_steps
from tiltcli.analysis.traces import Trace
from tiltcli.data import dataset_of
from tiltcli.engines.base import balance_of, class_weights
from tiltcli.errors import UserError

PHASES = 21
"""Steps of each pulse at which the valley is looked at."""

MOST_PULSES = 5


@dataclass(frozen=True)
class Valleys:
    """Valleys along a training's first pulses.

    Attributes:
        pulse: the pulse whose shapes are looked at closely, counted from 1.
        begin: its first step.
        trained: slices of all pulses looked at, by step.
        middle: step in the middle of that pulse.
        frozen: slices of the weights at `middle`, at the class weights of the pulse's steps.

    """

    pulse: int
    begin: int
    trained: Sequence[Slice]
    middle: int
    frozen: Sequence[Slice]


def valleys_of(
    one: Trace,
    engine: str,
    direction: str = "hessian",
    *,
    most: int = MOST_PULSES,
    phases: int = PHASES,
) -> Valleys:
    """Train a job's first pulses again and look at its valley on the way.

    Args:
        one: a dynamical job.
        engine: the engine that trained it.
        direction: see `tiltcli.analysis.slices.DIRECTIONS`.
        most: pulses to look at, from the first on; the shapes are those of the second.
        phases: steps of each at which to look.

    Returns:
        slices on the way, and those with Γ held still within one pulse.

    Raises:
        UserError: if the loss does not oscillate in full pulses of single steps, or the network
            is of another kind.

    """
    schedule = one.schedule
    last = int(one.metrics["step"].max())
    if schedule is None or one.steps_per_epoch > 1:
        raise UserError(
            f"job {one.job.id}: the valley is followed through a dynamical job's pulses, step by "
            'step: it needs loss.kind = "dynamical" and train.batch_size = "full"'
        )
    settled = last if schedule.settled_from is None else min(schedule.settled_from, last)
    pulses = min(settled // schedule.pulse, most)
    if pulses == 0 or schedule.period < 2:
        raise UserError(f"job {one.job.id}: not one pulse of the loss lies within its training")
    data = dataset_of(one.job)
    begins = [k * schedule.pulse for k in range(pulses)]
    steps = [phase_steps(begin, schedule.period, phases, last) for begin in begins]
    epochs = sorted({step for some in steps for step in some})
    snapshots = weights_at(one.job, data, epochs, engine)
    slicer = Slicer(one.job, data, direction)
    chosen = min(1, pulses - 1)
    own = steps[chosen]
    middle = next(shot for shot in snapshots if shot.step == own[len(own) // 2])
    gammas = class_weights(
        schedule, np.array(own, np.int64), data.classes, balance_of(one.job, data)
    )
    frozen = [slicer.at(step, middle.theta, g) for step, g in zip(own, gammas, strict=True)]
    return Valleys(chosen + 1, begins[chosen], slicer.along(snapshots), middle.step, frozen)
