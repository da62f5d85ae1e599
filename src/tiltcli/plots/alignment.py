"""Alignment of the classes' gradients with the top eigenvector, a panel for each cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tiltcli.analysis.traces import Trace
from tiltcli.errors import UserError
from tiltcli.evaluation.facets import MOST_PANELS
from tiltcli.plots.curvature import course, lines_of, mark_pulses
from tiltcli.plots.gamma import MOST_CLASSES, class_label
from tiltcli.plots.style import PAPER, Look, grid_of, legend_below, name_edges, wrapped

FEW = 30
"""Probes below which each is marked."""


def alignment(traces: Sequence[Trace], title: str = "", look: Look = PAPER) -> Figure:
    """Figure of ⟨g, v⟩²/‖g‖² by step, a line for each class: means over seeds, 95% intervals."""
    known = [one for one in traces if "alignment" in one.probes]
    known = [one for one in known if one.probes["alignment"].notna().any()]
    # A training that diverged at once has the probe of its start alone: no course.
    known = [one for one in known if one.probes["step"].max()] or known
    cells = lines_of(known, MOST_PANELS, "alignment", "panels")
    if not cells:
        raise UserError(
            f'{title}: no alignment was probed: quantities = ["alignment"] in [probe], or '
            "tiltcli probe RUN --every N --quantities alignment"
        )
    columns = 1 if look.narrow or len(cells) == 1 else 2
    with look.applied():
        figure = look.figure(0.9 + 1.8 * -(-len(cells) // columns))
        axes = grid_of(figure, len(cells), columns, sharex=True, sharey=True)
        for panel, (label, members) in zip(axes, cells.items(), strict=True):
            _draw(panel, members, look)
            mark_pulses(panel, members, look)
            name = f"{label + ', ' if label else ''}n = {len(members)}"
            panel.set_title(wrapped(name, int(70 * look.width / 7 / columns)), loc="left")
        name_edges(axes, columns, "optimiser step")
        if len({tuple(panel.get_legend_handles_labels()[1]) for panel in axes}) == 1:
            legend_below(figure, axes, 3 if look.narrow else MOST_CLASSES)
        else:  # the same colour has another meaning in each
            for panel in axes:
                panel.legend(fontsize=look.small)
        axes[0].set_ylim(0, 1)
        axes[0].set_xlim(0, None)
        figure.supylabel("⟨g, v⟩² / ‖g‖²", fontsize=look.theme.text)
        remarks = [f"{title}: gradients along the top eigenvector"]
        remarks += ["band: 95% interval"] if max(map(len, cells.values())) > 1 else []
        lost = len(traces) - len(known)
        remarks += [f"{lost} trainings have no such probes"] if lost else []
        classes = max(one.classes for one in known)
        remarks += [f"first {MOST_CLASSES} of {classes}"] if classes > MOST_CLASSES else []
        figure.suptitle(look.packed(remarks))
    return figure


def _draw(panel: Axes, members: Sequence[Trace], look: Look) -> None:
    first = members[0]
    courses = [one.probes.set_index("step")["alignment"].dropna() for one in members]
    for i in range(min(first.classes, MOST_CLASSES)):
        values = pd.concat([course.str[i] for course in courses], axis=1).sort_index()
        name = class_label(first.labels, i)
        if first.job.get("loss.groups") == "random":
            name = f"group {i}"
        colour, table = look.colours[i % len(look.colours)], values.to_numpy(np.float64)
        marker = "." if len(values) < FEW else ""
        course(
            panel, values.index, table, colour, shade=0.15, label=name, linewidth=0.8, marker=marker
        )
