"""The text of a grid file: how large it may be, what is wrong with it and where; `--set`."""

from __future__ import annotations

import math
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tiltcli.errors import Fault, UserError, with_suggestion

MOST_BYTES = 1 << 20
MOST_JOBS = 2_000_000
MOST_KEYS = 1000
MOST_BLOCKS = 2000
MOST_PARTS = 64  # of a dotted key
MOST_DIGITS = 308  # as a float has
MOST_FAULTS = 100
_NAME = r"(?:[\w-]++|\"[^\"\n]*+\"|'[^'\n]*+')\s*+"
_DOTTED = re.compile(rf"(?<![\w-])(?:{_NAME}\.\s*+){{{MOST_PARTS}}}")
_DIGITS = re.compile(rf"(?<![\w.+-])[+-]?[\d_]{{{MOST_DIGITS + 1},}}")
_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)")
_SHOWN = 60  # characters of a line that a message repeats
_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\]\[]+?)\s*\]\]?\s*(?:#.*)?$")
_PART = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_KEY = re.compile(rf"^\s*({_PART}(?:\s*\.\s*{_PART})*)\s*=")
_OPENERS = re.compile(r'"""|\'\'\'|"(?:[^"\\]|\\.)*"|\'[^\']*\'|#.*|[\[\]{}]')


def read_grid(path: Path | str) -> tuple[str, Path]:
    """Return the text of a grid file ("-": of standard input), and the path that it goes by."""
    file = Path("stdin") if str(path) == "-" else Path(path)
    try:
        if str(path) == "-":
            raw = sys.stdin.buffer.read(MOST_BYTES + 1)
        else:
            size = file.stat().st_size if file.is_file() else 0
            raw = file.read_bytes() if size <= MOST_BYTES else bytes(MOST_BYTES + 1)
        text = raw.decode("utf-8-sig")  # some editors begin a file with a mark of its encoding
    except FileNotFoundError:
        raise UserError(Fault("no such file", source=str(file))) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        fault = Fault(f"not UTF-8 text ({error.reason})", line=line, source=str(file))
        raise UserError(fault) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(Fault(f"cannot be read: {reason}", source=str(file))) from None
    if len(raw) > MOST_BYTES:
        raise UserError(Fault(f"larger than {MOST_BYTES} bytes: not a grid file", source=str(file)))
    if str(path) == "-" and not text.strip():
        raise UserError(Fault("is empty: no grid came", source="stdin"))
    return text, file


def not_toml(problem: str, text: str, source: str) -> Fault:
    """Return a fault at the line that the parser stopped at, and what it probably lacks."""
    lines = text.splitlines()
    place = _PLACE.search(problem)
    number = int(place[1]) if place and place[1] else len(lines)
    if "Unclosed" in problem:  # the parser notices only behind it
        number = _opened(lines, number)
    line = lines[number - 1].strip() if 0 < number <= len(lines) else ""
    shown = f" in {line[:_SHOWN]!r}" if line else ""
    hint = _hint(problem, line)
    message = f"not valid TOML: {_PLACE.sub('', problem)}{shown}"
    return Fault(f"{message}; {hint}" if hint else message, line=number or None, source=source)


def _opened(lines: list[str], number: int) -> int:
    for at in range(min(number, len(lines)), 0, -1):
        code = lines[at - 1].partition("#")[0]
        if code.count("[") > code.count("]") or code.count("{") > code.count("}"):
            return at
    return number


def _hint(problem: str, line: str) -> str:
    key, _, value = line.partition("=")
    key, value = key.strip(), value.strip()
    if "twice" in problem or "overwrite" in problem:
        return f"{key} stands twice: keep one"
    if re.match(r"[-+]?\d+,\d", value):
        return "a decimal point is meant?"
    if re.match(r"[A-Za-z_][\w-]*\s*(#.*)?$", value):
        return f'a text stands in quotes: {key} = "{value.partition("#")[0].strip()}"'
    if re.match(r"[A-Za-z_][\w.-]*\s*:", line):
        return "a value follows =, not :"
    return ""


def key_lines(text: str) -> dict[str, int]:
    """Return the line that every key of a (valid) TOML text is set in, counted from 1.

    Keys are dotted; those of the n-th `[[also]]` block begin with `also[n].` (n from 0); a table
    itself stands under its name. Keys inside inline tables have the line of their table.
    """
    lines: dict[str, int] = {}
    blocks: dict[str, int] = {}
    table = ""
    depth = 0
    quote: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if quote is None and depth == 0:
            if header := _HEADER.match(line):
                table = _plain(header[2])
                if header[1] == "[[":
                    blocks[table] = blocks.get(table, -1) + 1
                    table = f"{table}[{blocks[table]}]"
                else:
                    head, dot, rest = table.partition(".")
                    if head in blocks:
                        table = f"{head}[{blocks[head]}]{dot}{rest}"
                lines.setdefault(table, number)
                continue
            if found := _KEY.match(line):
                name = _plain(found[1])
                full = f"{table}.{name}" if table else name
                lines.setdefault(full, number)
                line = line[found.end() :]
        depth, quote = _scan(line, depth, quote)
    return lines


def _plain(name: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in name.split("."))


def _scan(line: str, depth: int, quote: str | None) -> tuple[int, str | None]:
    """Follow brackets and multi-line strings through one line."""
    while True:
        if quote is not None:
            _, closed, line = line.partition(quote)
            if not closed:
                return depth, quote
            quote = None
        if not (found := _OPENERS.search(line)):
            return depth, None
        token, line = found[0], line[found.end() :]
        if token in ('"""', "'''"):
            quote = token
        elif token in "[{":
            depth += 1
        elif token in "]}":
            depth = max(0, depth - 1)


def parse_override(text: str) -> tuple[str, Any]:
    """Return key and value, TOML or a bare word, of "key=value"; None if it is not of the kind."""
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not key:
        return key, None
    try:
        parsed = tomllib.loads(f"value = {value}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return key, value
    return key, parsed["value"] if len(parsed) == 1 else value


def overridden(document: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return a grid without its name; overrides replace in `[[also]]` only what it sets itself."""
    made: dict[str, Any] = {key: value for key, value in document.items() if key != "name"}
    for block in (made, *made.get("also", [])):
        for key, value in overrides.items():
            *tables, name = key.split(".")
            table = block
            for one in tables:
                if block is made or one in table:
                    table[one] = dict(table.get(one, {}))
                table = table.get(one, {})
            if tables and (block is made or name in table):
                if key == "train.seed":
                    name, value = "seeds", value if isinstance(value, list) else [value]
                table[name] = value
    return made


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
