"""How far a sweep is, how fast, and what comes out so far: filled in as it goes, for a display."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from tiltcli.grid import Job
from tiltcli.grid.jobs import texts
from tiltcli.grid.settings import deciding

if TYPE_CHECKING:
    import pandas as pd

    from tiltcli.evaluation.cells import Cells

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

HALF_LIFE = 20.0
"""Seconds after which a measurement counts half: the estimate follows a machine that gets busy."""

OF_CELLS = (
    *("job", "outcome", "labels", "data.classes"),
    *("data.seed", "train.seed", "model.width", "loss.kind", "loss.amplitude", "loss.period"),
    *("train_accuracy", "val_accuracy"),
)
"""Columns of the jobs table that a table of cells is made of, beside the settings that vary."""


class Advance(NamedTuple):
    """Updates and probes made of a job since the last report."""

    updates: int
    probes: int = 0


@dataclass
class _Kind:
    """Jobs that cost alike. Units are updates, probes counted as so many of them."""

    guess: float
    left: float = 0.0
    units: float = 0.0
    busy: float = 0.0
    at: float = 0.0

    def measured(self, units: float, seconds: float, now: float) -> None:
        """Take a measurement in; what was measured before fades."""
        kept = 0.5 ** ((now - self.at) / HALF_LIFE) if self.busy else 0.0
        # Not below a share, or a kind that rests while others run would be forgotten.
        kept = max(kept, 0.05)
        self.units, self.busy, self.at = kept * self.units + units, kept * self.busy + seconds, now


@dataclass
class _Run:
    """A job under way: when it last said anything, and what is not measured of it yet."""

    at: float
    left: float
    unmeasured: float = 0.0
    measured: float = 0.0


@dataclass
class Remaining:
    """Expects jobs, hears how they come along, and says how long the rest takes.

    A kind that has not run yet is reckoned by its guess, in proportion to how the guesses of the
    measured kinds came out.
    """

    workers: int = 1  # jobs trained at once
    _kinds: dict[Hashable, _Kind] = field(default_factory=dict)
    _of: dict[str, tuple[Hashable, float]] = field(default_factory=dict)
    _running: dict[str, _Run] = field(default_factory=dict)

    def expect(self, job: str, kind: Hashable, units: float, guess: float) -> None:
        """Add a job of a kind that costs alike; its probes are counted as units, like updates."""
        known = self._kinds.setdefault(kind, _Kind(guess))
        known.left += units
        self._of[job] = kind, units

    def made(self, job: str, units: float, now: float) -> None:
        """Hear that a job has made some of its units since it was last heard of."""
        if job not in self._of:
            return
        name, whole = self._of[job]
        kind, run = self._kinds[name], self._running.get(job)
        if run is None:
            # When it began is not known before it ends: its first units are measured then.
            self._running[job] = run = _Run(now, whole, unmeasured=units)
        else:
            kind.measured(units, now - run.at, now)
            run.measured += now - run.at
            run.at = now
        taken = min(units, run.left)
        run.left -= taken
        kind.left -= taken

    def ended(self, job: str, seconds: float, now: float) -> None:
        """Hear that a job has ended, and how long it took."""
        if job not in self._of:
            return
        name, whole = self._of.pop(job)
        kind = self._kinds[name]
        run = self._running.pop(job, None) or _Run(now, whole, unmeasured=whole)
        if run.unmeasured and seconds > run.measured:
            kind.measured(run.unmeasured, seconds - run.measured, now)
        kind.left -= run.left

    def seconds_left(self) -> float | None:
        """Wall time until all is done; None while nothing is known."""
        known = [kind for kind in self._kinds.values() if kind.busy > 0 and kind.units > 0]
        if not known:
            return None
        scale = sum(kind.busy for kind in known) / sum(kind.units * kind.guess for kind in known)

        def each(kind: _Kind) -> float:
            if kind.busy > 0 and kind.units > 0:
                return kind.busy / kind.units
            return scale * kind.guess

        total = sum(max(kind.left, 0.0) * each(kind) for kind in self._kinds.values())
        longest = max(
            (run.left * each(self._kinds[self._of[job][0]]) for job, run in self._running.items()),
            default=0.0,
        )
        return max(total / self.workers, longest)


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


class Gathered(NamedTuple):
    """Cells of the jobs that have ended."""

    cells: Cells  # the table
    metric: str  # what chooses among them
    over: str  # what their means are over, in a word


class Ended:
    """Rows of jobs that have ended, in some columns, and the table of their cells."""

    SHARE = 0.05
    """Of the time, that gathering cells anew may take while a sweep runs."""

    def __init__(self, settings: Iterable[str] = ()) -> None:
        self.columns = tuple(dict.fromkeys((*OF_CELLS, *settings)))
        self._tables: list[pd.DataFrame] = []
        self._rows: list[tuple[Any, ...]] = []
        self._lock = threading.Lock()
        self._gathered: Gathered | None = None
        self._stale, self._not_before = False, 0.0

    def add(self, row: Mapping[str, Any]) -> None:
        """Take the row of a job."""
        with self._lock:
            self._rows.append(tuple(map(row.get, self.columns)))
            self._stale = True

    def add_table(self, jobs: pd.DataFrame) -> None:
        """Take many rows, of earlier runs."""
        with self._lock:
            self._tables.append(jobs.reindex(columns=list(self.columns)))
            self._stale = True

    def cells(self, *, now: bool = False) -> Gathered | None:
        """Return the cells so far, made anew now and then, or `now`; None before the first job."""
        if self._stale and (now or time.monotonic() >= self._not_before):
            started = time.monotonic()
            self._gathered = self._gather()
            ended = time.monotonic()
            self._not_before = ended + (ended - started) / self.SHARE
        return self._gathered

    def _gather(self) -> Gathered:
        import pandas as pd

        from tiltcli.evaluation.cells import choosing_metric, gather

        with self._lock:
            rows, self._rows, self._stale = self._rows, [], False
        tables = self._tables
        if rows:
            tables.append(pd.DataFrame(rows, columns=list(self.columns), dtype=object))
        # A job that was run again ended as it did the last time.
        jobs = pd.concat(tables, ignore_index=True).drop_duplicates("job", keep="last")
        self._tables = [jobs]
        metric = choosing_metric(jobs)
        over = "replicates" if jobs["data.seed"].nunique() > 1 else "seeds"
        return Gathered(gather(jobs.reset_index(drop=True), [metric]), metric, over)
