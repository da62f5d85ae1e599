"""The phase diagram: amplitude × period, a map per width, the static loss marked on the scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tiltcli.plots.style import PAPER, Look, new_figure, style
from tiltcli.records import Outcome, UserError, listing, nearest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_COLUMNS = 3


@dataclass(frozen=True)
class Map:
    """Means of one width.

    Attributes:
        width: hidden units or channels.
        amplitudes: rows of the map, rising.
        periods: columns of the map, rising.
        means: mean of the metric over the completed jobs of a cell, NaN where there are none,
            shape (amplitudes, periods).
        jobs: number of jobs of each cell, ended in whatever way.
        lost: of them, diverged or failed.
        static: mean over the static jobs; NaN without any.

    """

    width: int
    amplitudes: tuple[float, ...]
    periods: tuple[int, ...]
    means: npt.NDArray[np.float64]
    jobs: npt.NDArray[np.int64]
    lost: npt.NDArray[np.int64]
    static: float


def phase_maps(jobs: pd.DataFrame, metric: str) -> list[Map]:
    """Means per width, amplitude and period.

    Args:
        jobs: jobs table of a run.
        metric: result column to average.

    Raises:
        UserError: if the column is unknown or empty, or there are no dynamical jobs.

    """
    known = [name for name in jobs.columns if name.endswith(("_accuracy", "_loss"))]
    if metric not in known:
        close = nearest(metric, known)
        hint = f"; did you mean {close}?" if close else ""
        raise UserError(f"--metric: no column {metric}; allowed: {listing(known)}{hint}")
    dynamical = jobs[jobs["loss.kind"] == "dynamical"]
    if dynamical.empty:
        raise UserError("a phase diagram needs dynamical jobs; this run has none")
    if jobs[metric].isna().all():
        raise UserError(f"--metric: {metric} is empty: the data has no such part")
    amplitudes = tuple(sorted(dynamical["loss.amplitude"].unique().tolist()))
    periods = tuple(sorted(int(p) for p in dynamical["loss.period"].unique()))
    maps = []
    for width in sorted(jobs["model.width"].unique()):
        own = jobs[jobs["model.width"] == width]
        means = np.full((len(amplitudes), len(periods)), np.nan)
        count, lost = (np.zeros(means.shape, np.int64) for _ in range(2))
        for i, amplitude in enumerate(amplitudes):
            for j, period in enumerate(periods):
                cell = own[(own["loss.amplitude"] == amplitude) & (own["loss.period"] == period)]
                done = cell[cell["outcome"] == Outcome.COMPLETED]
                count[i, j], lost[i, j] = len(cell), len(cell) - len(done)
                if len(done):
                    means[i, j] = done[metric].mean()
        still = own[(own["loss.kind"] == "static") & (own["outcome"] == Outcome.COMPLETED)]
        static = float(still[metric].mean()) if len(still) else math.nan
        maps.append(Map(int(width), amplitudes, periods, means, count, lost, static))
    return maps


def phase(
    jobs: pd.DataFrame, metric: str = "val_accuracy", title: str = "", look: Look = PAPER
) -> Figure:
    """Draw the phase diagram.

    Each width has a colour scale of its own, said on its bar: what a width reaches differs more
    between widths than between cells. The line on the bar is the static loss.
    """
    maps = phase_maps(jobs, metric)
    columns = min(MOST_COLUMNS, len(maps))
    rows = -(-len(maps) // columns)
    with style(look):
        figure = new_figure(look, 0.5 + rows * (0.6 + 0.3 * len(maps[0].amplitudes)))
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel in panels[len(maps) :]:
            panel.remove()
        for number, (panel, one) in enumerate(zip(panels, maps, strict=False)):
            _draw(figure, panel, one, metric, look)
            if number % columns == 0:
                panel.set_ylabel("amplitude A")
            if number + columns >= len(maps):
                panel.set_xlabel("period T (steps)")
        seeds = sorted({int(n) for one in maps for n in np.unique(one.jobs) if n})
        each = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0])
        figure.suptitle(
            f"{title + ': ' if title else ''}{metric.replace('_', ' ')}, "
            f"mean of {each} jobs per cell; line on the bar: static loss; boxed: best cell"
        )
    return figure


def _draw(figure: Figure, panel: Axes, one: Map, metric: str, look: Look) -> None:
    values = [*one.means[~np.isnan(one.means)].tolist()]
    values += [] if math.isnan(one.static) else [one.static]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high - low < 1e-3:
        # A scale over nothing would paint noise as structure.
        middle = (low + high) / 2
        low, high = middle - 5e-4, middle + 5e-4
    margin = 0.02 * (high - low)  # so that a mark at either end is seen whole
    image = panel.imshow(
        one.means,
        cmap="cividis",
        vmin=low - margin,
        vmax=high + margin,
        origin="lower",
        aspect="auto",
    )
    panel.set_xticks(range(len(one.periods)), [str(p) for p in one.periods])
    panel.set_yticks(range(len(one.amplitudes)), [f"{a:g}" for a in one.amplitudes])
    panel.tick_params(length=0)
    for side in ("top", "right"):
        panel.spines[side].set_visible(True)
    panel.set_title(f"width {one.width}")
    _write_cells(panel, one, low, high, metric, look)
    bar = figure.colorbar(image, ax=panel, fraction=0.08, pad=0.03, aspect=14)
    bar.ax.tick_params(labelsize=look.small)
    bar.locator = _few_ticks()
    bar.update_ticks()
    if not math.isnan(one.static):
        bar.ax.axhline(one.static, color=look.colours[1], linewidth=2.5)
        bar.ax.set_title(
            f"static\n{one.static:.3f}", fontsize=look.small, color=look.colours[1], pad=4
        )


def _few_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=4)


def _write_cells(panel: Axes, one: Map, low: float, high: float, metric: str, look: Look) -> None:
    from matplotlib.patches import Rectangle

    for i, j in np.ndindex(one.means.shape):
        value = float(one.means[i, j])
        dark = (value - low) / (high - low) < 0.55
        if math.isnan(value):
            panel.add_patch(
                Rectangle(
                    (j - 0.5, i - 0.5), 1, 1, fill=False, hatch="///", edgecolor=look.grey, lw=0
                )
            )
        else:
            panel.text(
                j,
                i,
                f"{value:.3f}",
                ha="center",
                va="center",
                fontsize=look.small,
                color="white" if dark else "black",
            )
        if one.lost[i, j]:
            text = f"{one.lost[i, j]}/{one.jobs[i, j]} lost"
            colour = "white" if dark else "black"
            panel.text(
                j, i - 0.32, text, ha="center", va="center", fontsize=look.small, color=colour
            )
    if not np.isnan(one.means).all():
        best = np.nanargmin(one.means) if metric.endswith("loss") else np.nanargmax(one.means)
        i, j = np.unravel_index(int(best), one.means.shape)
        panel.add_patch(
            Rectangle(
                (float(j) - 0.46, float(i) - 0.46),
                0.92,
                0.92,
                fill=False,
                ec=look.colours[1],
                lw=1.8,
            )
        )
