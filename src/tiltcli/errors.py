"""What every layer shares: the user's error, job outcomes, and the columns of the three tables."""

from __future__ import annotations

import difflib
import itertools
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TextIO, TypeVar

FEW = 6
MOST_SAID = 4000
"""Characters of one message: beyond, nobody reads what a file made it repeat."""

_SHORT = re.compile(
    "failed to map segment|annot allocate memory|an't allocate memory|Unable to allocate"
    "|an't start new thread|launch worker thread"
)
_ENDLESS = re.compile(r"(\S{200})\S{100,}(\S{50})")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

T = TypeVar("T")
R = TypeVar("R")


def harmless(text: str) -> str:
    """Text in one line, control characters spelled: no value moves a cursor or fakes a message."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error, or what it came of, is of memory or threads that are not to be had."""
    # Libraries say it each in their own way, few by Python's own error.
    causes = [error]
    while (before := causes[-1].__cause__ or causes[-1].__context__) and before not in causes:
        causes.append(before)
    return any(isinstance(one, MemoryError) or _SHORT.search(str(one)) for one in causes)


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with what the user gave."""

    message: str  # what is wrong and what is allowed, one sentence
    key: str | None = None  # dotted name of the setting concerned, if any
    line: int | None = None  # in the grid file, counted from 1, if known
    source: str | None = None  # file or option it was found in, if any

    def __str__(self) -> str:
        place = self.source or ""
        if self.line is not None:
            place = f"{place}:{self.line}" if place else f"line {self.line}"
        said = harmless(": ".join(part for part in (place, self.key, self.message) if part))
        said = _ENDLESS.sub(r"\1…\2", said)  # what is allowed comes after it
        return said if len(said) <= MOST_SAID else f"{said[:MOST_SAID]}…"


class UserError(Exception):
    """Something that is the user's to mend; the only error shown without a traceback.

    Carries every fault found, so that a file is mended in one round.
    """

    def __init__(self, *faults: str | Fault) -> None:
        self.faults: tuple[Fault, ...] = tuple(
            Fault(fault) if isinstance(fault, str) else fault for fault in faults
        )
        super().__init__("\n".join(str(fault) for fault in self.faults))


class RunError(UserError):
    """The files or the machine are at fault, not a job: the run ends; what is finished is kept."""


def each(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Return the work's results on all items; `UserError` says the faults of all, each once."""
    done: list[R] = []
    faults: list[Fault] = []
    for item in items:
        try:
            done.append(work(item))
        except UserError as error:
            faults.extend(error.faults)
    if faults:
        raise UserError(*dict.fromkeys(faults))
    return done


RUN_COUNTS = ("name", "jobs", "done", "missing", "diverged", "failed", "seconds", "changed")
"""What runs are listed by."""


class Outcome(StrEnum):
    """How a job ended. Divergence is a result, not an error."""

    COMPLETED = "completed"
    DIVERGED = "diverged"
    FAILED = "failed"


@dataclass(frozen=True)
class Column:
    """A column of a table: Arrow type by name, unit ("1" if dimensionless) and meaning."""

    name: str
    type: str
    unit: str
    meaning: str


def columns_of(table: str) -> tuple[Column, ...]:
    """Read a table of columns: name, type, unit (– for none), meaning, which may go on indented."""
    lines = re.sub(r"\n +", " ", table.strip()).splitlines()
    rows = (re.split(" +", line, maxsplit=3) for line in lines if line and line[0] != "#")
    return tuple(Column(name, kind, unit.strip("–"), said) for name, kind, unit, said in rows)


_, *_TABLES = re.split(
    r"^\[(\w+)\]$", Path(__file__).with_name("columns.txt").read_text("utf-8"), flags=re.MULTILINE
)
_COLUMNS = dict(zip(_TABLES[::2], map(columns_of, _TABLES[1::2]), strict=True))
JOB_COLUMNS, RESULT_COLUMNS = _COLUMNS["jobs"], _COLUMNS["results"]
METRIC_COLUMNS, RECALL_COLUMNS = _COLUMNS["metrics"], _COLUMNS["recall"]
QUANTITY_COLUMNS = {
    name: _COLUMNS[name] for name in ("hessian", "ntk", "lyapunov", "alignment", "density")
}
"""What `[probe] quantities` may name, and the columns that each fills."""

PROBE_COLUMNS = (*_COLUMNS["probes"], *itertools.chain(*QUANTITY_COLUMNS.values()))


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known name most like `word`, or None if nothing is close."""
    names = list(known)
    found = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if found:
        return found[0]
    # "witdh" is close to "model.width" only by its last part.
    tails = {name.rpartition(".")[2]: name for name in names}
    found = difflib.get_close_matches(word.rpartition(".")[2], tails, n=1, cutoff=0.6)
    return tails[found[0]] if found else None


def with_suggestion(
    problem: str, given: str, known: Iterable[str], *, says: str = "allowed", limit: int = 12
) -> str:
    """Return what is wrong with a name, and what would do: the nearest, and all if few."""
    names = list(known)
    close = nearest(given, names)
    hint = f"did you mean {close}?" if close else ""
    if close and len(names) > FEW:
        return f"{problem}; {hint}"
    allowed = f"{problem}; {says}: {listing(names, limit) or 'none'}"
    return f"{allowed}; {hint}" if hint else allowed


def listing(names: Sequence[object], limit: int = 12) -> str:
    """Join names for a message, cut where there are too many to read."""
    shown = ", ".join(str(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown}, … ({len(names)} in all)"


def unadorned() -> bool:
    """Whether the user wants text only, on a terminal too: NO_COLOR, --no-color or TERM=dumb."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def plain(stream: TextIO) -> bool:
    """Whether a stream gets text only: it is no terminal, or the user wants it so."""
    return unadorned() or not stream.isatty()


@contextmanager
def hushed() -> Iterator[None]:
    """Keep remarks of libraries, which are for their developers, from our users."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
