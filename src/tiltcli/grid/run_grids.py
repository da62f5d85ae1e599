"""The grids of a run: the one it was made from, and those that it was extended by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiltcli.grid.jobs import Job
from tiltcli.grid.settings import PATHS, SETTINGS
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
    """Read the grid of a run; of one that was extended, all its grids together.

    Propagates `UserError` with every fault found in the files.

    Args:
        folder: of the run.

    Returns:
        the run's jobs, each once, and the values of each axis; document, folder and probe are
        those of the latest grid.

    """
    grids = [load_sweep(path) for path in kept_grids(folder)]
    latest = grids[-1]
    if len(grids) == 1:
        return latest
    jobs = {job.id: job for grid in grids for job in grid.jobs}
    return replace(
        latest,
        jobs=tuple(jobs.values()),
        axes=_varying(tuple(jobs.values()), [key for grid in grids for key in grid.axes]),
        expanded=sum(grid.expanded for grid in grids),
        unused=tuple(sorted({key for grid in grids for key in grid.unused})),
    )


def _varying(jobs: Sequence[Job], first: Iterable[str]) -> dict[str, tuple[Any, ...]]:
    """Values of every setting that several grids' jobs take several of, in their order."""
    axes = {}
    for key in dict.fromkeys((*first, *SETTINGS)):
        values = {repr(value): value for job in jobs if (value := job.get(key)) is not None}
        if len(values) > 1 and key not in PATHS:
            axes[key] = tuple(values.values())
    return axes
