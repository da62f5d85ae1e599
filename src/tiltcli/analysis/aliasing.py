"""Which phases of a pulse a log meets: rows every T steps would always be of the same moment."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

FEW = 8
"""Phases of a pulse below which its rows are no fair sample of it."""


@dataclass(frozen=True)
class Logged:
    """How the log of a tilted training lies to its pulses."""

    pulse: int  # steps from the beginning of a pulse to that of the next
    every: int  # epochs between two rows
    updates: int = 1  # optimiser steps in an epoch

    def phases(self, every: int | None = None) -> int:
        """Return how many steps of the pulse the rows meet, at their own distance or another."""
        steps = (self.every if every is None else every) * self.updates
        return self.pulse // math.gcd(self.pulse, steps)


def aliasing(logs: Iterable[Logged]) -> str | None:
    """Say what must be said of tilted trainings whose rows meet too few phases, if any do."""
    known = list(dict.fromkeys(logs))
    few = [one for one in known if one.phases() < min(FEW, one.pulse)]
    if not few:
        return None
    worst = min(few, key=lambda one: (one.phases(), -one.pulse))
    alike = [one for one in known if one.every == worst.every]
    # The nearest that meets every phase, or as many as the steps of an epoch allow.
    best = max(
        range(worst.every, 2 * worst.every + 50),
        key=lambda n: (min(one.phases(n) / one.pulse for one in alike), -n),
    )
    met = worst.phases()
    said = (
        f"train.log_every = {worst.every} meets only {met} of the {worst.pulse} steps of a pulse: "
        "what is logged along the way is not its course, but a block or a sawtooth"
    )
    better = best != worst.every and worst.phases(best) > met
    return f"{said}; train.log_every = {best} meets {worst.phases(best)}" if better else said
