"""How a sweep stands: static and the best tilted cell of each group, as lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    columns = [[short(key), *(value_text(key, one.settings[key]) for one in lines)] for key in keys]
    if any(one.static is not None for one in lines):
        columns.append(["static", *(mean_text(cells, one.static, metric) for one in lines)])
    if counts:
        among = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
        which = f"best of {among} cells" if counts[-1] > 1 else "dynamical"
        columns.append([which, *(mean_text(cells, one.best, metric) for one in lines)])
        names = ("–" if one.best is None else cell_name(cells, one.best) for one in lines)
        columns.append(["cell", *names])
    title = f"{_NAMES[metric]}: mean ± 95% interval ({over})"
    text = [title, *aligned([column[: most + 1] for column in columns], len(keys))]
    if len(lines) > most:
        text.append(f"     …  and {len(lines) - most} more")
    return text


def aligned(columns: Iterable[Sequence[str]], right: int) -> list[str]:
    """Columns of texts as lines, the first few aligned at their right edge."""
    padded = []
    for place, column in enumerate(columns):
        texts = [harmless(text) for text in column]
        width = max(map(len, texts))
        padded.append([t.rjust(width) if place < right else t.ljust(width) for t in texts])
    return ["  ".join(row).rstrip() for row in zip(*padded, strict=True)]
