"""How large a grid file may be in any respect, and the list of its faults, each with its place."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tiltcli.errors import Fault, UserError, with_suggestion

MOST_JOBS = 2_000_000
MOST_KEYS = 1000
MOST_BLOCKS = 2000
MOST_PARTS = 64  # of a dotted key
MOST_DIGITS = 308  # as a float has
MOST_FAULTS = 100

_PART = r"(?:[\w-]++|\"[^\"\n]*+\"|'[^'\n]*+')\s*+"
_DOTTED = re.compile(rf"(?<![\w-])(?:{_PART}\.\s*+){{{MOST_PARTS}}}")
_DIGITS = re.compile(rf"(?<![\w.+-])[+-]?[\d_]{{{MOST_DIGITS + 1},}}")


def text_fault(text: str, source: str) -> Fault | None:
    """Return what the parser would not come to an end with, or refuse without a word."""
    for pattern, said in (
        (_DOTTED, f"a key of more than {MOST_PARTS} dotted parts; allowed: at most {MOST_PARTS}"),
        (_DIGITS, f"a number of more than {MOST_DIGITS} digits; allowed: at most {MOST_DIGITS}"),
    ):
        if found := pattern.search(text):
            line = text.count("\n", 0, found.start()) + 1
            return Fault(said, line=line, source=source)
    return None


def oversized(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the key and the fault of each table, list of blocks or number that is too large."""
    waiting: list[tuple[str, Any]] = [("", document)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            if len(value) > MOST_KEYS:
                where = "the table" if key else "the file's top"
                yield key, f"{where} has {len(value):,} keys; at most {MOST_KEYS:,} are allowed"
                continue
            waiting += ((f"{key}.{name}" if key else name, one) for name, one in value.items())
        elif key == "also" and isinstance(value, list) and len(value) > MOST_BLOCKS:
            yield key, f"{len(value):,} blocks; at most {MOST_BLOCKS:,} are allowed"
        elif isinstance(value, list):
            waiting += ((key, one) for one in value)
        elif isinstance(value, int) and abs(value) >= 10**MOST_DIGITS:
            yield key, f"a number of more than {MOST_DIGITS} digits; allowed: at most {MOST_DIGITS}"


def combinations(sizes: Mapping[str, int], ties: Sequence[Sequence[str]]) -> int:
    """Number of combinations of axes of these sizes, those that are tied advancing together."""
    tied = {key for tie in ties for key in tie}
    together = (max((sizes.get(key, 1) for key in tie), default=1) for tie in ties)
    return math.prod(together) * math.prod(n for key, n in sizes.items() if key not in tied)


def too_many(jobs: int) -> str:
    """Say that a grid has too many jobs."""
    return f"the grid has {jobs:,} jobs; at most {MOST_JOBS:,} are allowed"


Report = Callable[[str, str, str], None]
"""Takes a fault: its key, what is wrong, and what the keys of its block begin with."""


def refuse_unknown(
    given: Iterable[str], known: Sequence[str], fault: Report, block: str = "", table: str = ""
) -> None:
    """Refuse keys (what they begin with is the `table`) that are none of those known."""
    known = [table + key for key in known]
    for key in (f"{table}{key}" for key in given):
        if key not in known:
            fault(key, with_suggestion("unknown", key, known), block)


class FaultList:
    """Collects every fault before the reading is given up; `lines` are those of `key_lines`."""

    def __init__(self, lines: Mapping[str, int], source: str) -> None:
        self.faults: list[Fault] = []
        self.overrides: dict[str, Any] = {}  # given by `--set`
        self._lines = lines
        self._source = source

    def fault(self, key: str, message: str, block: str = "") -> None:
        """Note a fault at a key: in its block, or where the base tables set it."""
        place: dict[str, Any] = {"source": self._source or None}
        if key in self.overrides:
            place = {"source": "--set"}
        else:
            table = key.rpartition(".")[0]
            for name in (block + key, key, block + table, table, block.rstrip(".")):
                if name in self._lines:
                    place["line"] = self._lines[name]
                    break
        known = Fault(message, key=block + key if block else key, **place)
        if known not in self.faults:
            self.faults.append(known)
        if len(self.faults) >= MOST_FAULTS:
            raise UserError(*self.faults, f"only the first {MOST_FAULTS} faults are shown")
