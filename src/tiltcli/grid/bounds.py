"""How large a grid file may be in any respect, checked before anything is made of it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tiltcli.errors import Fault

MOST_JOBS = 2_000_000
MOST_KEYS = 1000
MOST_BLOCKS = 2000
MOST_PARTS = 64  # of a dotted key
MOST_DIGITS = 308  # as a float has
MOST_FAULTS = 100

_PART = r"(?:[\w-]++|\"[^\"\n]*+\"|'[^'\n]*+')\s*+"
_DOTTED = re.compile(rf"(?<![\w-])(?:{_PART}\.\s*+){{{MOST_PARTS}}}")
_DIGITS = re.compile(r"(?<![\w.+-])[+-]?[\d_]{309,}")


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
