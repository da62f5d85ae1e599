"""Axes: what a list, range, linspace or logspace in a grid file stands for, and [sweep] of them."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiltcli.errors import listing, with_suggestion
from tiltcli.grid.setting_types import MOST_WHOLE, Setting
from tiltcli.grid.settings import SETTINGS, file_keys, setting_key
from tiltcli.grid.syntax import Report, refuse_unknown

LONGEST = 1_000_000  # values on one axis; beyond it is a slip of the pen
_SIZE = f"none beyond ±{MOST_WHOLE}"
KINDS = {
    "range": f"[start, stop, step], {_SIZE}",
    "linspace": f"[lowest, highest, number of values], {_SIZE}",
    "logspace": f"[lowest, highest, number of values], the first two above 0, {_SIZE}",
}

SPANS = {
    "uniform": f"[lowest, highest], the first below the second, {_SIZE}",
    "loguniform": f"[lowest, highest], both above 0, the first below the second, {_SIZE}",
}


@dataclass(frozen=True)
class Span:
    """A range that [search] draws from."""

    low: float
    high: float
    log: bool  # whether the logarithm is uniform, not the value
    whole: bool  # whether values are whole numbers

    @property
    def size(self) -> float:
        """Number of values there are."""
        return self.high - self.low + 1 if self.whole else math.inf

    def at(self, share: float) -> float:
        """Value below which this share of the draws lies, to six digits, which tables show."""
        # Each whole number has its share, the ends as well.
        wide = 0.5 if self.whole else 0.0
        low, high = self.low - wide, self.high + wide
        if self.log:
            value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        else:
            value = low + share * (high - low)
        value = round(value) if self.whole else float(f"{value:.6g}")
        return min(max(value, self.low), self.high)

    def __str__(self) -> str:
        return f"{'log' * self.log}uniform = [{self.low:g}, {self.high:g}]"


def span_of(setting: Setting, value: Any) -> Span | None:
    """Return the range that { uniform | loguniform = […] } is; None for any other value.

    Raises:
        ValueError: saying what is wrong and what is allowed.

    """
    if not isinstance(value, dict) or not set(value) & set(SPANS):
        return None
    kind, ends = next(iter(value.items()))
    if setting.arrow not in ("int64", "float64"):
        raise ValueError(f"got {kind}; allowed for this setting: {setting.allowed}, or a list")
    good = len(value) == 1 and isinstance(ends, list) and len(ends) == 2 and _are_numbers(ends)
    if not good or ends[0] >= ends[1] or (kind == "loguniform" and ends[0] <= 0):
        allowed = SPANS.get(kind, SPANS["uniform"])
        raise ValueError(f"got {kind} = {_show(ends)}; allowed: {allowed}")
    low, high = (_validated(setting, end) for end in ends)
    return Span(low, high, kind == "loguniform", setting.whole)


def is_axis(setting: Setting, value: Any) -> bool:
    """Whether a value is an axis rather than a plain value (some plain values are lists)."""
    if isinstance(value, dict):
        return True
    depth, inner = 0, value
    while isinstance(inner, list):
        depth += 1
        inner = inner[0] if inner else None
    return depth > setting.depth


def axis_size(setting: Setting, value: Any) -> int:
    """Return how many values an axis has, at least, without making or checking them."""
    if not is_axis(setting, value):
        return 1
    if isinstance(value, list):
        try:
            return len(set(value))
        except TypeError:  # of lists
            return len({repr(one) for one in value})
    kind, arguments = next(iter(value.items()), ("", []))
    if not _is_computed(kind, arguments):
        return 1
    low, high, third = (*arguments, 1)[:3]
    count: float = (high - low) / (third or 1) if kind == "range" else third
    # Values closer than the twelve digits that are kept become one.
    fine = abs(high - low) * 1e11 < count * max(abs(low), abs(high))
    if fine or not 1 <= count <= LONGEST or (kind == "logspace" and min(low, high) <= 0):
        return 1
    if not setting.whole or kind == "range":
        return math.ceil(count)
    space = np.linspace if kind == "linspace" else np.geomspace
    values = space(low, high, int(count))
    return len(set(np.rint(values).tolist()))


def axis_values(setting: Setting, value: Any, most: int = LONGEST) -> list[Any]:
    """Return the values, without repeats, of an axis or a plain value; looks at `most` of them."""
    if not is_axis(setting, value):
        return [_validated(setting, value)]
    raw = _computed(setting, value, most) if isinstance(value, dict) else value
    if not raw:
        raise ValueError("an empty axis; give at least one value")
    if len(raw) > LONGEST:
        raise ValueError(f"an axis of {len(raw)} values; at most {LONGEST} are allowed")
    values = (_validated(setting, entry) for entry in raw[:most])
    return list({repr(value): value for value in values}.values())


def _validated(setting: Setting, value: Any) -> Any:
    try:
        return setting.validate(value)
    except ValueError as error:
        problem = f"got {_show(value)}"
        if isinstance(value, str) and " | " in setting.allowed:
            names = setting.allowed.split(" | ")
            raise ValueError(with_suggestion(problem, _show(value), names)) from error
        raise ValueError(f"{problem}; allowed: {setting.allowed}") from error


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _computed(setting: Setting, table: dict[str, Any], most: int) -> list[Any]:
    """Return the first values of { range | linspace | logspace = […] }."""
    if len(table) != 1 or next(iter(table)) not in KINDS:
        given = listing(list(table)) or "nothing"
        if set(table) & set(SPANS):
            raise ValueError(f"got {given}; only where there is a [search], of what it searches")
        word = next(iter(table), "")
        raise ValueError(with_suggestion(f"got a table with {given}", word, KINDS))
    kind, arguments = next(iter(table.items()))
    bad = f"got {kind} = {_show(arguments)}; allowed: {KINDS[kind]}"
    if setting.arrow not in ("int64", "float64"):
        raise ValueError(f"got {kind}; allowed for this setting: {setting.allowed}, or a list")
    if not _is_computed(kind, arguments):
        raise ValueError(bad)
    values = _range(arguments, most) if kind == "range" else _space(kind, arguments, bad, most)
    # A geometric axis of widths lands between whole numbers: take the nearest.
    return [round(x) for x in values] if setting.whole and kind != "range" else values


def _is_computed(kind: str, arguments: Any) -> bool:
    return (
        isinstance(arguments, list)
        and len(arguments) in ((2, 3) if kind == "range" else (3,))
        and _are_numbers(arguments)
    )


def _are_numbers(values: list[Any]) -> bool:
    return all(
        isinstance(x, int | float) and not isinstance(x, bool) and abs(x) <= MOST_WHOLE
        for x in values
    )


def _range(arguments: list[float], most: int) -> list[float]:
    start, stop, step = (*arguments, 1)[:3]
    if step == 0:
        raise ValueError("got a range with step 0; allowed: any other step")
    count = (stop - start) / step
    if count > LONGEST:
        raise ValueError(f"an axis of about {count:.3g} values; at most {LONGEST} are allowed")
    if all(isinstance(x, int) for x in (start, stop, step)):
        return list(range(int(start), int(stop), int(step))[:most])
    # 0.1 · 3 is 0.30000000000000004: twelve digits make 0.3 of it, as the user wrote.
    steps = range(max(0, math.ceil(count - 1e-9)))
    return [float(f"{start + i * step:.12g}") for i in steps[:most]]


def _space(kind: str, arguments: list[float], bad: str, most: int) -> list[float]:
    low, high, number = arguments
    if number != int(number) or not 1 <= number <= LONGEST:
        raise ValueError(f"{bad} (the number of values: whole, from 1 to {LONGEST})")
    if kind == "linspace":
        values = np.linspace(low, high, int(number))
    else:
        if low <= 0 or high <= 0:
            raise ValueError(bad)
        values = np.geomspace(low, high, int(number))
    return [float(f"{x:.12g}") for x in values[:most]]


def read_ties(table: Any, block: str, fault: Report) -> list[list[str]]:
    """Keys that [sweep] of the file or of a block ties."""
    if not isinstance(table, dict):
        fault("sweep", "must be a table, [sweep]", block)
        return []
    refuse_unknown(table, ["zip"] if block else ["zip", "methods"], fault, block, "sweep.")
    ties = table.get("zip", [])
    if not isinstance(ties, list) or not all(
        isinstance(tie, list) and len(tie) > 1 and all(isinstance(k, str) for k in tie)
        for tie in ties
    ):
        fault("sweep.zip", 'must be lists of keys, as [["model.width", "train.lr"]]', block)
        return []
    return [[setting_key(key) for key in tie] for tie in ties]


def read_methods(table: Any, fault: Report) -> tuple[str, ...]:
    """Settings that [sweep] says tell methods apart."""
    given = table.get("methods", []) if isinstance(table, dict) else []
    if not isinstance(given, list) or not all(isinstance(key, str) for key in given):
        fault("sweep.methods", 'must be a list of settings, as ["loss.kind"]', "")
        return ()
    for key in dict.fromkeys(given):
        if key not in SETTINGS:
            said = with_suggestion(f"names {key}, which is unknown", key, SETTINGS)
            fault("sweep.methods", said, "")
    return tuple(given)


def fitting_ties(
    values: Mapping[str, Sequence[Any]],
    ties: Sequence[Sequence[str]],
    block: str,
    overridden: Container[str],
    fault: Report,
) -> list[list[str]]:
    """Return the ties whose axes are there, each once, and equally long.

    A key that `--set` fixed (`overridden`) is tied to nothing.
    """
    good = []
    seen: set[str] = set()
    for tie in ties:
        problems = []
        for key in tie:
            if key not in SETTINGS:
                said = f"names {key}, which is unknown"
                problems.append(with_suggestion(said, key, file_keys()))
            elif key not in values:
                problems.append(f"names {key}, which the file does not set")
            elif key in seen:
                problems.append(f"names {key} twice")
            seen.add(key)
        for problem in problems:
            fault("sweep.zip", problem, block)
        if problems:
            continue
        left = [key for key in tie if not (key in overridden and len(values[key]) == 1)]
        lengths = {key: len(values[key]) for key in left}
        if len(set(lengths.values())) > 1 and all(lengths.values()):
            shown = ", ".join(f"{key} has {n}" for key, n in lengths.items())
            fault("sweep.zip", f"ties axes of different lengths: {shown}", block)
            continue
        good.append(left)
    return good
