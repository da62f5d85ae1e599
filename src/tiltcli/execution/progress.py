"""How far a sweep is, how fast, and what comes out so far: filled in as it goes, for a display."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tiltcli.execution.ended import Ended
from tiltcli.execution.remaining import Remaining
from tiltcli.grid import Job
from tiltcli.grid.jobs import texts
from tiltcli.grid.settings import deciding

TORCH_COST = 100.0
"""About what a step of a perceptron costs in torch, in steps of the compiled kernel."""

USUAL_WIDTH = 64
"""Of a user's network, where nothing is known of it."""

COSTS = deciding("cost")

PROBE_STEPS = 500
"""About what a probe costs in steps of the same job."""


SHORTEST = 0.1
"""Seconds from which on a speed means anything."""

MOST_DAYS = 99


class Advance(NamedTuple):
    """Updates and probes made of a job since the last report."""

    updates: int
    probes: int = 0


@dataclass
class Progress:
    """How far a sweep is; read by the display while the workers write."""

    total: int = 0  # jobs of the sweep
    before: int = 0  # jobs that an earlier run had finished
    total_steps: int = 0  # optimiser updates of the jobs to do
    remaining: Remaining = field(default_factory=Remaining)  # what the jobs to do still take
    ended: Counter[str] = field(default_factory=Counter)  # jobs ended now, by outcome
    steps: int = 0  # optimiser updates made now
    probes: int = 0  # probes made now
    # keeps the rows of the jobs, for a display of means; None without one
    results: Ended | None = None
    _started: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def expect(self, job: Job, engine: str, steps: int, probes: int) -> None:
        """Add a job to what is to be done, with its updates and probes."""
        self.total_steps += steps
        kind = (engine, *texts(job, COSTS))
        guess = step_cost(job) * (TORCH_COST if engine == "torch" else 1.0)
        self.remaining.expect(job.id, repr(kind), steps + probes * PROBE_STEPS, guess)

    def add(self, job: Job, advance: Advance) -> None:
        """Count what was made of a job; called from the workers' threads."""
        with self._lock:
            self.steps += advance.updates
            self.probes += advance.probes
            self._started.add(job.id)
            units = advance.updates + advance.probes * PROBE_STEPS
            self.remaining.made(job.id, units, time.monotonic())
            self.remaining.workers = max(self.remaining.workers, len(self._started))

    def end(self, row: Mapping[str, Any]) -> None:
        """Count a job that has ended now, from its row of the jobs table."""
        with self._lock:
            self.ended[str(row["outcome"])] += 1
            self._started.discard(str(row["job"]))
            self.remaining.ended(str(row["job"]), float(row["seconds"]), time.monotonic())
        if self.results is not None:
            self.results.add(row)

    @property
    def done(self) -> int:
        """Jobs that are finished, earlier ones included."""
        return self.before + self.ended.total()

    def seconds_left(self) -> float | None:
        """Wall time until all is done; None while nothing is known."""
        with self._lock:
            return self.remaining.seconds_left()

    @property
    def running(self) -> int:
        """Jobs that have made their first steps and are not finished."""
        return len(self._started)


def step_cost(job: Job) -> float:
    """Cost of a step in a unit of its own: one part grows with the width, one does not."""
    width = float(job["model.width"] or USUAL_WIDTH)
    if job["model.kind"] == "mlp":
        deeper = int(job.get("model.depth") or 1) - 1
        return width * (1.0 + deeper * (1.0 + width / 9.0)) + 20.0
    return width**2 + 5.0 * width + 22.0  # convolutions on 8 × 8 pictures, as measured


class Pace:
    """Speed of a sweep: counted from its first steps on, since compiling comes before them."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._began: tuple[float, int] | None = None
        self._before = (0.0, 0)

    def describe(self, seconds: float) -> str:
        """Return one line, seconds after the start: jobs, outcomes, speed once there is one."""
        progress = self._progress
        parts = [f"{progress.done}/{progress.total} jobs", f"{progress.running} running"]
        parts += [f"{progress.ended[outcome]} {outcome}" for outcome in ("diverged", "failed")]
        began = self._first(seconds)
        if began is not None and seconds - began[0] >= SHORTEST:
            rate = (progress.steps - began[1]) / (seconds - began[0])
            parts += [f"{rate:,.0f} steps/s"] * (rate >= 1)
        elif began is None and progress.done < progress.total:
            parts.append(f"starting {clock(seconds)} (a first run compiles)")
        return ", ".join(parts)

    def line(self, seconds: float) -> str:
        """Return `describe`, and the time left where it is known."""
        return ", ".join(filter(None, (self.describe(seconds), time_left(self._progress))))

    def _first(self, seconds: float) -> tuple[float, int] | None:
        """When the first steps were made, the last moment without any; and what was done then."""
        progress = self._progress
        if self._began is None and progress.steps > 0:
            self._began = self._before
        self._before = seconds, progress.steps
        return self._began


def time_left(progress: Progress) -> str:
    """Time until the end at the speed of late, or nothing if that is not known."""
    left = progress.seconds_left()
    return f"{clock(left)} left" if left else ""


def clock(seconds: float) -> str:
    """Duration as people say it."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days > MOST_DAYS:
        return f"more than {MOST_DAYS} days"
    if days:
        return f"{days} d {hours:02d} h"
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
