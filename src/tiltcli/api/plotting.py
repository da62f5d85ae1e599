"""`tiltcli.plot`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tiltcli.api.figure_kinds import KINDS, Request
from tiltcli.errors import UserError, with_suggestion

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot(
    kind: str,
    *runs: str | Path,
    output: str | Path | None = None,
    results: str | Path = "results",
    where: Sequence[str] = (),
    metric: str | None = None,
    job: str | None = None,
    zoom: tuple[int, int] | None = None,
    x: str | None = None,
    y: str | None = None,
    methods: Sequence[str] | None = None,
    by: Sequence[str] | None = None,
    width: float = 7.0,
    style: str = "screen",
    say: Callable[[str], None] | None = None,
) -> Figure:
    """Draw a run; a notebook shows the figure.

    Args:
        kind: "phase", "map", "curves", "recall", "gamma", "trace", "curvature", "plane",
            "alignment", "density", "valley", "bifurcation", "budget" or "compare".
        runs: a run, or two for "compare"; each a name or a path, with an optional selection.
        output: file to write as well, .png, .svg or .pdf.
        results: folder that runs are kept under.
        where: conditions on the jobs, such as `model.width == 30`.
        metric: column to draw ("phase", "map", "curves", "recall", "budget").
        job: id of a job, or its beginning ("gamma", "trace", "curvature", "valley",
            "bifurcation").
        zoom: first and last step to enlarge ("trace").
        x: setting of the columns ("map").
        y: setting of the rows ("map").
        methods: settings that tell methods apart ("budget").
        by: settings that tell rows apart ("budget").
        width: inches.
        style: "paper", "screen" or "dark".
        say: told what the figure leaves out; None: written to stderr.

    Returns:
        the figure.

    Raises:
        UserError: for an unknown kind or run, and for what the kind cannot draw.

    """
    from tiltcli.evaluation.selection import narrowed
    from tiltcli.plots.style import Look, check_path, save
    from tiltcli.store.read import find_run, read

    if kind not in KINDS:
        raise UserError(with_suggestion(f"kind: got {kind}", kind, KINDS))
    chosen, names = KINDS[kind], tuple(map(str, runs))
    if not 1 <= len(names) <= chosen.most_runs:
        many = " ".join(names) or "none"
        raise UserError(f"{kind} draws {chosen.most_runs} run, not {len(names)}: {many}")
    name, _, selection = names[0].partition("@")
    folder = find_run(name, Path(results))
    if output is not None:
        check_path(Path(output))
    tables = narrowed(read(folder), [selection, *where], job)
    given = {"metric": metric, "job": job, "zoom": zoom, "methods": methods, "by": by}
    given |= {"x": x, "y": y}
    chosen.check(given, tables)
    look, say = Look(style, width), say or _say
    request = Request(folder, Path(results), tables, names, tuple(where), given, look, say)
    figure = chosen.draw(request)
    if output is not None:
        save(figure, Path(output))
    return figure


def _say(note: str) -> None:
    sys.stderr.write(f"note: {note}\n")
