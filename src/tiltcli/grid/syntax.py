"""The text of a grid file, and what is wrong with it that is not TOML, in a user's words."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tiltcli.errors import Fault, UserError

MOST_BYTES = 1 << 20
_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)")
_SHOWN = 60  # characters of a line that a message repeats


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
