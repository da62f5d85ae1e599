"""How a sweep stands: static and the best tilted cell of each group, as lines of text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tiltcli.errors import harmless

if TYPE_CHECKING:
    from tiltcli.execution.ended import Gathered

_NAMES = {"val_accuracy": "validation accuracy", "train_accuracy": "training accuracy"}


def standings(found: Gathered, most: int = 1000, *, ripe: bool = False) -> list[str]:
    """Return static against the best tilted cell, a line for each group; none for one mean alone.

    `ripe`, while the sweep runs, is as in `tiltcli.evaluation.facets.groups`.
    """
    from tiltcli.evaluation.facets import cell_name, groups, short, value_text
    from tiltcli.evaluation.texts import mean_text

    cells, metric, over = found
    lines = groups(cells, metric, ripe=ripe)
    if len(lines) < 2 and not any(len(one.shown) == 2 for one in lines):
        return []
    keys = list(lines[0].settings)
    counts = sorted({one.tilted for one in lines if one.tilted})
    rows = [[*map(short, keys)]]
    rows += [[value_text(key, value) for key, value in one.settings.items()] for one in lines]
    if any(one.static is not None for one in lines):
        _add(rows, "static", (mean_text(cells, one.static, metric) for one in lines))
    if counts:
        among = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
        which = f"best of {among} cells" if counts[-1] > 1 else "dynamical"
        _add(rows, which, (mean_text(cells, one.best, metric) for one in lines))
        names = ("–" if one.best is None else cell_name(cells, one.best) for one in lines)
        _add(rows, "cell", names)
    title = f"{_NAMES[metric]}: mean ± 95% interval ({over})"
    rows = [[harmless(one) for one in row] for row in rows]
    text = [title, *aligned(rows[: most + 1], len(keys))]
    if len(lines) > most:
        text.append(f"     …  and {len(lines) - most} more")
    return text


def _add(rows: list[list[str]], header: str, texts: Iterable[str]) -> None:
    for row, text in zip(rows, (header, *texts), strict=True):
        row.append(text)


def aligned(rows: list[list[str]], right: int) -> list[str]:
    """Rows of texts as lines, the first few columns aligned at their right edge."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.rjust(width) if i < right else text.ljust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
