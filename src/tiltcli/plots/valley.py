"""The valley a training lies in: its shape through one pulse, its width and floor through several.

In the left picture of the shapes the weights are trained on, as they were; in the right one they
stay as they were in the middle of the pulse, so that only the loss tilts.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from tiltcli.analysis.thinning import evenly
from tiltcli.analysis.traces import Trace
from tiltcli.analysis.valleys import Slice, Valleys
from tiltcli.plots.style import PAPER, Look, log_scale
from tiltcli.plots.trace import seen, shade

SHAPES = 11
"""Slices in each picture of the shapes."""


def valley(one: Trace, found: Valleys, look: Look = PAPER) -> Figure:
    """Return a figure of shapes through one pulse, and of width and floor against the step."""
    assert one.schedule is not None
    period = one.schedule.period
    inside = [one for one in found.trained if 0 <= one.step - found.begin <= period]
    with look.applied():
        figure = look.figure(4.9 if not look.narrow else 8.4)
        rows, columns = (2, 2) if not look.narrow else (4, 1)
        axes = figure.subplots(rows, columns).ravel()
        for panel, slices, title in (
            (axes[0], inside, f"pulse {found.pulse}, as trained"),
            (axes[1], found.frozen, f"weights frozen at step {found.middle}"),
        ):
            _shapes(panel, slices, found.begin, period)
            panel.set_title(title)
            panel.set_xlabel("distance from the weights, α")
            panel.set_ylabel("F (nat)")
        axes[1].set_ylim(axes[0].get_ylim())
        colours = ListedColormap(mpl.colormaps["viridis"](np.linspace(0, 0.95, 256)))
        scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, 1), colours)
        figure.colorbar(scale, ax=list(axes[:2]), pad=0.01, fraction=0.05).set_label("t / T")
        for panel, name in zip(axes[2:], ("width", "depth"), strict=True):
            _against_step(panel, one, found, name, look)
        axes[2].set_ylabel("width" if look.narrow else "width (0.02 nat above the floor)")
        axes[3].set_ylabel("floor F$_{min}$ (nat)")
        figure.suptitle(
            f"{look.lines(one.title)}\nF along the eigenvector of its Hessian's λ$_{{max}}$"
        )
    return figure


def _shapes(panel: Axes, slices: Sequence[Slice], begin: int, period: int) -> None:
    colours = mpl.colormaps["viridis"]
    for i in evenly(len(slices), SHAPES):
        one = slices[i]
        colour = colours(0.95 * (one.step - begin) / period)
        panel.plot(one.alphas, one.losses, color=colour, linewidth=0.9)
        middle = len(one.alphas) // 2
        panel.plot(0.0, one.losses[middle], "o", color=colour, markersize=2.5)
    log_scale(panel)
    panel.set_xlim(-1.5, 1.5)
    lowest = min(one.valley.depth for one in slices)
    panel.set_ylim(0.7 * lowest, 6 * max(one.valley.depth for one in slices))


def _against_step(panel: Axes, one: Trace, found: Valleys, name: str, look: Look) -> None:
    assert one.schedule is not None
    for slices, colour, dashes, label in (
        (found.trained, look.colours[0], "-", "as trained"),
        (found.frozen, look.colours[1], "--", "frozen weights"),
    ):
        values = [getattr(cut.valley, name) for cut in slices]
        steps = [cut.step for cut in slices]
        panel.plot(steps, values, dashes, color=colour, marker=".", markersize=2.5, label=label)
    last = max(cut.step for cut in found.trained)
    shade(panel, seen(one), (0, last), look)
    for edge in range(0, last + 1, one.schedule.pulse):
        panel.axvline(edge, color=look.grey, linewidth=0.4, linestyle=":", zorder=0)
    panel.set_xlim(0, last)
    panel.set_xlabel("optimiser step")
    if name == "depth":
        log_scale(panel)
        panel.legend(loc="upper right", bbox_to_anchor=(1.0, 1.14), ncols=2)
    else:
        panel.set_ylim(0, None)
