"""The time a sweep still takes, from the speed that each kind of job has had of late."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

HALF_LIFE = 20.0
"""Seconds after which a measurement counts half: the estimate follows a machine that gets busy."""


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
