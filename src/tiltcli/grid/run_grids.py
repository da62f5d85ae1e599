"""The grids of a run: the one it was made from, and those that it was extended by."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiltcli.grid.axes import axis_values, is_axis
from tiltcli.grid.jobs import several_values
from tiltcli.grid.settings import SETTINGS, TABLES
from tiltcli.grid.sweep import Sweep, load_sweep

_LATER = re.compile(r"sweep-([1-9][0-9]*)\.toml")


def kept_grids(folder: Path) -> list[Path]:
    """Grids of a run: `sweep.toml`, and those that it was extended by, `sweep-2.toml` and so on."""
    found = {
        int(number[1]): path
        for path in folder.glob("sweep-*.toml")
        if (number := _LATER.fullmatch(path.name))
    }
    return [folder / "sweep.toml", *(found[number] for number in sorted(found))]


def load_run(folder: Path) -> Sweep:
    """Return all grids of a run together; document, folder and probe are those of the latest."""
    grids = [load_sweep(path, stored=True) for path in kept_grids(folder)]
    latest = replace(grids[-1], name=folder.resolve().name)  # a renamed folder is a renamed run
    if len(grids) == 1:
        return latest
    jobs = {job.id: job for grid in grids for job in grid.jobs}
    return replace(
        latest,
        jobs=tuple(jobs.values()),
        axes=several_values(tuple(jobs.values()), [key for grid in grids for key in grid.axes]),
        expanded=sum(grid.expanded for grid in grids),
        unused=tuple(sorted({key for grid in grids for key in grid.unused})),
        files={path: digest for grid in grids for path, digest in grid.files.items()},
    )


def listed_values(folder: Path) -> dict[str, list[Any]]:
    """Return the values of each axis of a run as the jobs table has them, in its grids' order.

    Nothing is expanded and nothing refused: what cannot be read has no values here.
    """
    found: dict[str, list[Any]] = {}
    for path in kept_grids(folder):
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        also = document.get("also", [])
        for block in (document, *(also if isinstance(also, list) else [])):
            for key, value in _given(block):
                setting = SETTINGS.get(key.replace("train.seeds", "train.seed"))
                if setting is not None and is_axis(setting, value):
                    with suppress(ValueError):
                        values = map(setting.to_column, axis_values(setting, value))
                        known = found.setdefault(setting.key, [])
                        known += [one for one in values if one not in known]
    return found


def _given(block: Any) -> Iterator[tuple[str, Any]]:
    """Dotted names and values of the settings of a grid file, or of one block of it."""
    for table in TABLES:
        content = block.get(table) if isinstance(block, dict) else None
        for name, value in content.items() if isinstance(content, dict) else ():
            yield f"{table}.{name}", value
