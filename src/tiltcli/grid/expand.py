"""The product of a grid's axes, fast enough for a hundred thousand jobs.

What applies to a job, and every default, hangs on a few deciding settings (the kind of data, of
loss, of optimiser). It is worked out once per combination of those; the other axes are then only
filled in, and the identity's text with them.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiltcli.grid.jobs import Job, Settings, id_of_text, identity_text
from tiltcli.grid.settings import PATHS, later_settings, outputs, position


class Watched(dict[str, Any]):
    """Settings that note which of them were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return super().__contains__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """Value of a setting, or `default` where it is not there."""
        self.asked.add(key)
        return super().get(key, default)


@dataclass(frozen=True)
class Resolved:
    """Settings of one combination, complete."""

    settings: dict[str, Any]  # those that apply, defaults filled in
    files: dict[str, str]  # path settings as this machine finds them
    deciding: set[str]  # settings that the outcome hangs on


@dataclass(frozen=True)
class _Choice:
    """One value of an axis, or one row of tied axes."""

    number: int
    values: dict[str, Any]
    texts: dict[str, str]


@dataclass(frozen=True)
class _Frame:
    """Jobs that differ only in free settings: what they share, and where the rest goes."""

    shared: dict[str, Any]  # all settings; the free ones have any value
    files: dict[str, str]  # see `Job`
    text: str  # text that the identity is the hash of, with %s for each free setting
    # axis (by position) and name of each free setting, in the order of the text
    slots: tuple[tuple[int, str], ...]
    idle: tuple[int, ...]  # axes that do not apply; only their first values make jobs


class Grid:
    """A product of axes; those of keys tied together advance together."""

    def __init__(self, values: Mapping[str, Sequence[Any]], ties: Sequence[Sequence[str]]) -> None:
        rows = [(tie, zip(*(values[key] for key in tie), strict=True)) for tie in ties if tie]
        tied = {key for tie in ties for key in tie}
        rows += [((key,), zip(found)) for key, found in values.items() if key not in tied]
        # Table order, so that seeds turn fastest and the order does not hang on the file's.
        rows.sort(key=lambda row: min(position(key) for key in row[0]))
        self._fixed: dict[str, Any] = {}
        self._axes: list[list[_Choice]] = []
        for keys, combinations in rows:
            axis = [_choice(i, keys, row) for i, row in enumerate(combinations)]
            if len(axis) == 1:
                self._fixed.update(axis[0].values)
            else:
                self._axes.append(axis)

    @property
    def size(self) -> int:
        """Number of combinations."""
        return math.prod(len(axis) for axis in self._axes)

    def combinations(self) -> Iterator[dict[str, Any]]:
        """Settings of each combination."""
        return map(self._given, itertools.product(*self._axes))

    def _given(self, combination: Sequence[_Choice]) -> dict[str, Any]:
        given = dict(self._fixed)
        for choice in combination:
            given.update(choice.values)
        return given

    def jobs(self, resolve: Callable[[Mapping[str, Any]], Resolved]) -> Iterator[Job]:
        """Yield the jobs in order; equal work may come again, but for idle axes."""
        # Of a later setting it hangs on the value whether it is in the identity's text.
        deciding = {*PATHS, *(setting.key for setting in later_settings()), *outputs()}
        places: list[tuple[int, str]] = []
        frames: dict[tuple[str, ...], _Frame] = {}
        for combination in itertools.product(*self._axes):
            key = tuple([combination[axis].texts[name] for axis, name in places])
            frame = frames.get(key)
            if frame is None:
                resolved = resolve(self._given(combination))
                if not resolved.deciding <= deciding:
                    # Frames told apart by fewer settings may not be the same after all.
                    deciding |= resolved.deciding
                    frames.clear()
                    places = [(axis, name) for axis, name in self._named() if name in deciding]
                    key = tuple([combination[axis].texts[name] for axis, name in places])
                frame = frames[key] = self._frame(resolved, deciding)
            if any(combination[axis].number for axis in frame.idle):
                continue
            own = {name: combination[axis].values[name] for axis, name in frame.slots}
            texts = tuple([combination[axis].texts[name] for axis, name in frame.slots])
            yield Job(id_of_text(frame.text % texts), Settings(own, frame.shared), frame.files)

    def _named(self) -> list[tuple[int, str]]:
        """Names of the settings of each axis, with its place."""
        return [(axis, name) for axis, own in enumerate(self._axes) for name in own[0].values]

    def _frame(self, resolved: Resolved, deciding: set[str]) -> _Frame:
        settings = resolved.settings
        axis_of = {name: axis for axis, name in self._named() if name not in deciding}
        pieces, slots = [], []
        for name in sorted(settings):
            if name in axis_of:
                pieces.append(f"{json.dumps(name)}:\0")
                slots.append((axis_of[name], name))
            elif (text := identity_text({name: settings[name]})) != "{}":
                pieces.append(text[1:-1])
        whole = "{" + ",".join(pieces) + "}"
        idle = tuple(
            axis
            for axis, choices in enumerate(self._axes)
            if not any(name in settings or name in deciding for name in choices[0].values)
        )
        text = whole.replace("%", "%%").replace("\0", "%s")
        return _Frame(settings, resolved.files, text, tuple(slots), idle)


def _choice(number: int, keys: Sequence[str], row: Sequence[Any]) -> _Choice:
    values = dict(zip(keys, row, strict=True))
    texts = {key: json.dumps(value, separators=(",", ":")) for key, value in values.items()}
    return _Choice(number, values, texts)
