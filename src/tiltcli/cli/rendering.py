"""What commands return, and the one renderer that writes it as text, JSON, CSV or Markdown."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltcli.cli.options import Format, say
from tiltcli.errors import harmless

if TYPE_CHECKING:
    from tiltcli.evaluation.texts import Table

JSON_FORMAT = 1
"""Version of the JSON of every command; raised when a key changes its meaning or goes."""


@dataclass(frozen=True)
class Result:
    """What a command found out."""

    command: str
    facts: Mapping[str, Any]  # what its JSON holds, beside the version and the command
    columns: Sequence[str]  # of its CSV
    records: Sequence[Mapping[Any, Any]]  # rows of its CSV
    lines: Sequence[str] = ()  # before the tables
    tables: Sequence[Table] = ()  # as a terminal and Markdown show them
    compact: Sequence[Table] = ()  # the same for a terminal too narrow for those
    notes: Sequence[str] = ()  # to read them by; a command tells them on stderr itself


def write(result: Result, form: Format) -> None:
    """Write a result to stdout."""
    if form is Format.TABLE:
        _to_terminal(result)
        return
    text = {Format.JSON: to_json, Format.CSV: to_csv, Format.MARKDOWN: to_markdown}[form](result)
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def write_grid(text: str, output: Path | None, options: str = "") -> None:
    """Write a grid file to stdout, or whole to where it is wanted."""
    if output is None:
        sys.stdout.write(text)
        return
    from tiltcli.store.files import write_output

    write_output(output, lambda to: to.write_text(text, encoding="utf-8"))
    say(f"written: {output}; tiltcli sweep {output}{' ' if options else ''}{options} runs it")


def to_json(result: Result) -> str:
    """JSON with a version; what is missing is null."""
    page = {"format": JSON_FORMAT, "command": result.command, **result.facts}
    return json.dumps(_bare(page), indent=1, allow_nan=False, ensure_ascii=False)


def to_csv(result: Result) -> str:
    """CSV with a header; what is missing is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, result.columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {key: _defused(_bare(value)) for key, value in row.items()} for row in result.records
    )
    return text.getvalue()


def _defused(value: Any) -> Any:
    """Return a text in one line, with a quote before what a spreadsheet would run as a formula."""
    value = harmless(value) if isinstance(value, str) else value
    formula = isinstance(value, str) and value.lstrip()[:1] in ("=", "+", "-", "@")
    return f"'{value}" if formula and not _is_number(value) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def to_markdown(result: Result) -> str:
    """Markdown: the lines, a table under its title each, then the notes."""
    from tiltcli.evaluation.texts import markdown

    return markdown(result.lines, result.tables, result.notes)


def _to_terminal(result: Result) -> None:
    from rich.table import Table as Grid

    from tiltcli.cli.streams import output

    console = output()
    tables = result.tables
    if result.compact and max(map(_width, tables)) > console.width:
        tables = result.compact
    gap = 2 if not tables or max(map(_width, tables)) <= console.width else 1
    for line in result.lines:
        console.print(harmless(line), highlight=False, markup=False, soft_wrap=True)
    for table in tables:
        if table.title:
            console.print(f"\n{harmless(table.title)}", style="bold", markup=False)
        grid = Grid(box=None, pad_edge=False, padding=(0, gap, 0, 0))
        for name in table.header:
            left = name in table.left
            grid.add_column(name, justify="left" if left else "right", no_wrap=True)
        for row in table.rows:
            grid.add_row(*map(harmless, row))
        console.print(grid, highlight=False)


def _width(table: Table) -> int:
    """Columns of the terminal that a table takes."""
    longest = (max(map(len, cells)) for cells in zip(table.header, *table.rows, strict=True))
    return sum(one + 2 for one in longest) - 2


def _bare(value: Any) -> Any:
    """Value as JSON has it: NumPy's and pandas' scalars as Python's, None for what is no number."""
    import pandas as pd

    if isinstance(value, Mapping):
        return {str(key): _bare(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_bare(one) for one in value]
    if value is None or pd.isna(value):
        return None
    plain = value.item() if hasattr(value, "item") else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
