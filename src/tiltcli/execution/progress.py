"""How far a sweep is, and what comes out so far: filled in by the runner, read by a display."""

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
    total_probes: int = 0  # probes of the jobs to do
    probes: int = 0  # probes made now
    # keeps the rows of the jobs, for a display of means; None without one
    results: Ended | None = None
    _started: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def expect(self, job: Job, engine: str, steps: int, probes: int) -> None:
        """Add a job to what is to be done, with its updates and probes."""
        self.total_steps += steps
        self.total_probes += probes
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
