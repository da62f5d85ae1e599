"""A sweep's speed and the time it still takes, as people say them."""

from __future__ import annotations

from tiltcli.execution.progress import Progress

SHORTEST = 0.1
"""Seconds from which on a speed means anything."""

MOST_DAYS = 99


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
