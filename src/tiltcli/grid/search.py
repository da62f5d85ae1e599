"""[search]: cells drawn at random from a space too large for a grid, as many for each method.

What the fair comparison tunes is searched: every setting that neither repeats the experiment nor
tells rows or methods apart. Each method has the same number of trials in each row, so that budgets
are equal; a trial is a cell like any other, on all replicates. The draws hang on the seed, the row,
the method and the space alone: more trials begin with the same ones.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tiltcli.grid.axes import Span
from tiltcli.grid.expand import Grid, Resolved
from tiltcli.grid.jobs import Job, identity_text
from tiltcli.grid.setting_types import seed, whole
from tiltcli.grid.settings import METHODS, SETTINGS, position, replicates, tells_rows
from tiltcli.grid.syntax import Report, refuse_unknown

MOST_TRIALS = 10_000
TRIALS = whole("search.trials", "cells of each method in each row", 1, MOST_TRIALS)
SEED = seed("search.seed", "seed of the draws")
KEYS = ("trials", "seed")


@dataclass(frozen=True)
class Search:
    """What [search] says."""

    trials: int  # cells of each method in each row
    seed: int  # of the draws
    methods: tuple[str, ...]  # settings that tell methods apart

    def apart(self, key: str) -> bool:
        """Whether a setting tells rows or methods apart."""
        return (key in self.methods or tells_rows(key)) and key not in replicates()

    def over(self, key: str) -> bool:
        """Whether a setting is searched, if it takes several values."""
        return not self.apart(key) and key not in replicates()


def read_search(table: Any, methods: Sequence[str], fault: Report) -> Search | None:
    """Return what the [search] table says, with one trial where it is wrong; None without one."""
    if table is None:
        return None
    if not isinstance(table, Mapping):
        fault("search", "must be a table, [search]", "")
        return Search(1, 0, tuple(methods) or METHODS)
    refuse_unknown(table, KEYS, fault, table="search.")
    found = []
    for setting, value in ((TRIALS, table.get("trials")), (SEED, table.get("seed", 0))):
        try:
            found.append(setting.validate(value))
        except ValueError as error:
            given = "missing" if value is None else f"got {value!r:.80}"
            fault(setting.key, f"{given}; allowed: {error}", "")
            found.append(1)
    return Search(found[0], found[1], tuple(methods) or METHODS)


@dataclass
class _Space:
    """What one grid of the file has for one method in one row."""

    fixed: dict[str, Any]  # settings with one value here
    axes: dict[str, Sequence[Any] | Span]  # searched, in the order of the table of settings
    again: dict[str, list[Any]]  # replicates
    ties: list[list[str]]  # replicates that advance together
    resolve: Callable[[Mapping[str, Any]], Resolved]  # completes settings
    seen: set[str] = field(default_factory=set)

    def draw(self, random: Random) -> dict[str, Any] | None:
        """Values that were not drawn before; None if there are no more."""
        size = math.prod(a.size if isinstance(a, Span) else len(a) for a in self.axes.values())
        while len(self.seen) < size:
            # Of Python's generator random() alone is promised to stay as it is.
            at = ((key, axis, random.random()) for key, axis in self.axes.items())
            drawn = {k: a.at(x) if isinstance(a, Span) else a[int(x * len(a))] for k, a, x in at}
            if (text := repr(drawn)) not in self.seen:
                self.seen.add(text)
                return drawn
        return None

    def jobs(self, drawn: dict[str, Any]) -> list[Job]:
        """A trial on all its replicates."""
        values = {key: [value] for key, value in (self.fixed | drawn).items()}
        return list(Grid(values | self.again, self.ties).jobs(self.resolve))


class Drawing:
    """The trials of all grids of a file."""

    def __init__(self, search: Search, fault: Report) -> None:
        self.search = search
        self._fault = fault
        self._spaces: dict[str, list[_Space]] = {}

    def add(
        self,
        values: Mapping[str, Sequence[Any]],
        ties: Sequence[Sequence[str]],
        block: str,
        resolve: Callable[[Mapping[str, Any]], Resolved],
    ) -> None:
        """Take a grid of the file: the values of its keys, or one `Span`, none empty."""
        again = {key: list(own) for key, own in values.items() if key in replicates()}
        apart = {key: own for key, own in values.items() if self.search.apart(key)}
        rest = {key: own for key, own in values.items() if key not in again and key not in apart}
        axes = {k: own for k, own in rest.items() if len(own) > 1 or isinstance(own[0], Span)}
        for tie in ties:
            named = next((key for key in tie if key in rest), "")
            if named or (set(tie) & set(again) and set(tie) & set(apart)):
                said = f"names {named or tie[0]}; allowed with [search]: ties of seeds alone, or "
                said += "of settings that tell rows or methods apart"
                self._fault("sweep.zip", said, block)
        fixed = {key: own[0] for key, own in rest.items() if key not in axes}
        start = {key: own[0] for key, own in again.items()}
        start |= {key: getattr(own[0], "low", own[0]) for key, own in axes.items()}
        found: dict[str, _Space] = {}
        for given in Grid(apart, [tie for tie in ties if set(tie) <= set(apart)]).combinations():
            resolved = resolve(fixed | start | given).settings
            # An axis that neither applies nor hangs on another searched one makes no cells.
            own = {
                key: axes[key][0] if isinstance(axes[key][0], Span) else axes[key]
                for key in sorted(axes, key=position)
                if key in resolved or set(SETTINGS[key].applies.keys) & set(axes)
            }
            bound = [list(tie) for tie in ties if set(tie) <= set(again)]
            space = _Space(fixed | given, own, again, bound, resolve)
            found.setdefault(self._group(resolved), space)
        for group, space in found.items():
            self._spaces.setdefault(group, []).append(space)

    def jobs(self, trials: int) -> Iterator[Job]:
        """Yield the jobs of so many trials of a method in a row; equal work may come again."""
        if not any(space.axes for spaces in self._spaces.values() for space in spaces):
            said = "nothing to search: no setting but seeds and those that tell rows or methods "
            said += "apart takes several values; allowed: lists, or as { loguniform = [0.01, 1] }"
            self._fault("search", said, "")
            return
        least, at = trials, ""
        for group, spaces in self._spaces.items():
            number = 0
            for jobs in self._trials(group, list(spaces), trials):
                number += 1
                yield from jobs
            if number < least:
                least, at = number, group
        if at:
            said = f"got {trials}; a method in a row has {least} cells{self._said(at)}; "
            self._fault("search.trials", f"{said}allowed: a whole number from 1 to {least}", "")

    def _trials(self, group: str, spaces: list[_Space], trials: int) -> Iterator[list[Job]]:
        """Yield different trials of a method in a row; its grids take turns."""
        random = Random(f"{self.search.seed} {group}")
        found: set[str] = set()
        missed = 0
        while len(found) < trials and spaces:
            space = spaces[len(found) % len(spaces)]
            drawn = space.draw(random)
            if drawn is None or missed > 1000 + 20 * len(found):
                spaces.remove(space)  # that was all of it
                missed = 0
                continue
            jobs = space.jobs(drawn)
            missed += 1
            if jobs[0].id not in found:
                missed = 0
                found.add(jobs[0].id)
                if self._group(jobs[0].settings) != group:
                    said = "names a setting that does not apply to all that is searched of a method"
                    self._fault("sweep.methods", said, "")
                yield jobs

    def _group(self, settings: Mapping[str, Any]) -> str:
        """Text of what tells rows and methods apart."""
        return identity_text({k: v for k, v in settings.items() if self.search.apart(k)})

    def _said(self, group: str) -> str:
        """What tells a method in a row from the others, in words."""
        known = [json.loads(one) for one in self._spaces]
        own = json.loads(group).items()
        tells = {k: v for k, v in own if any(one.get(k) != v for one in known)}
        said = [f"{key} = {json.dumps(value)}" for key, value in tells.items()]
        return f" where {', '.join(said)}" if said else ""
