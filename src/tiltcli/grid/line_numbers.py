"""In which line of a TOML text each key stands; the standard parser does not say."""

from __future__ import annotations

import re

_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\]\[]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(
    r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_OPENERS = re.compile(r'"""|\'\'\'|"(?:[^"\\]|\\.)*"|\'[^\']*\'|#.*|[\[\]{}]')


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
    position = 0
    while position < len(line):
        if quote is not None:
            end = line.find(quote, position)
            if end < 0:
                return depth, quote
            position, quote = end + 3, None
            continue
        found = _OPENERS.search(line, position)
        if not found:
            break
        token = found[0]
        position = found.end()
        if token in ('"""', "'''"):
            quote = token
        elif token in "[{":
            depth += 1
        elif token in "]}":
            depth = max(0, depth - 1)
    return depth, quote
