"""The phase diagram: amplitude × period, a map per width, and the best of each beside static."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tiltcli.evaluation.phase_map import Map, phase_maps
from tiltcli.plots.style import PAPER, Look, new_figure, said, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW = 0.31  # height of a row of cells, inches
# What is around the cells of a panel, inches: height and width, with the bar beside or above.
_BESIDE, _ABOVE = (0.52, 0.95), (0.78, 0.38)


def phase(
    jobs: pd.DataFrame, metric: str = "val_accuracy", title: str = "", look: Look = PAPER
) -> Figure:
    """Draw the phase diagram.

    Each width has a colour scale of its own, said on its bar: what a width reaches differs more
    between widths than between cells. A line on the bar is the static loss; where there is room,
    cells hold their mean and the half-width of its 95% interval over the seeds. A triangle marks
    cells whose paired difference from static has an interval that leaves out zero. With several
    widths a last panel shows static and the best cell of each with their intervals.

    Args:
        jobs: jobs table of a run.
        metric: its column to average.
        title: name of the run.
        look: style and width.

    Raises:
        UserError: if the column is unknown or empty, or there are no dynamical jobs.

    """
    maps = phase_maps(jobs, metric)
    panels_needed = len(maps) + (len(maps) > 1)
    columns = _columns(panels_needed, look)
    rows = -(-panels_needed // columns)
    around = _ABOVE if look.narrow else _BESIDE
    cell = 72 * (look.width / columns - around[1]) / len(maps[0].periods)
    # Five characters of the smallest type; less than that and colour alone has to do.
    written = cell > 3.1 * look.small
    row = _ROW if written else min(_ROW, max(0.14, 1.3 / len(maps[0].amplitudes)))
    with style(look):
        figure = new_figure(look, 0.6 + rows * (around[0] + row * len(maps[0].amplitudes)))
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel in panels[panels_needed:]:
            panel.remove()
        for number, (panel, one) in enumerate(zip(panels, maps, strict=False)):
            _draw(figure, panel, one, look, written)
            if number % columns == 0:
                panel.set_ylabel("amplitude A")
            if number + columns >= len(maps):
                panel.set_xlabel("period T (steps)")
        if len(maps) > 1:
            _draw_best(panels[len(maps)], maps, metric, look, alone=len(maps) % columns == 0)
        figure.suptitle(_title(maps, metric, title, written, look))
        figure.supxlabel(_legend(maps, look), fontsize=look.small)
    return figure


def _columns(panels: int, look: Look) -> int:
    if look.narrow:
        return 1 if panels == 1 else 2
    return min(panels, max(3, int(look.width / 2.6)))


def _title(maps: Sequence[Map], metric: str, title: str, written: bool, look: Look) -> str:
    counts = sorted({int(n) for one in maps for n in np.unique(one.jobs) if n})
    each = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
    kind = "mean ± 95% interval" if written and counts[-1] > 1 else "mean"
    name = f"{title}: " if title else ""
    text = f"{name}{said(metric)}, {kind}, n = {each} per cell"
    return text if not look.narrow else text.replace(", mean", "\nmean")


def _legend(maps: Sequence[Map], look: Look) -> str:
    parts = ["boxed: best cell"]
    if any(one.static.n for one in maps):
        parts.append("line on the bar: static")
    if any(one.against.any() for one in maps):
        parts.append("▲▼: above, below static (95%)")
    if any(one.lost.any() for one in maps):
        parts.append("×: seeds lost" if look.narrow else "×: seeds diverged or failed")
    if not look.narrow or len(parts) < 3:
        return "; ".join(parts)
    return "; ".join(parts[:2]) + "\n" + "; ".join(parts[2:])


def _draw(figure: Figure, panel: Axes, one: Map, look: Look, written: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    low, high = _scale(one)
    margin = 0.02 * (high - low)  # so that a mark at either end is seen whole
    image = panel.imshow(
        one.means,
        cmap="cividis",
        vmin=low - margin,
        vmax=high + margin,
        origin="lower",
        aspect="auto",
    )
    _ticks(panel, one)
    _write_cells(panel, one, image, look, written)
    static = f"static {one.static.mean:.3f}" if one.static.n else ""
    if look.narrow:
        bar = figure.colorbar(image, ax=panel, location="top", fraction=0.06, pad=0.02, aspect=22)
        bar.ax.set_title(f"width {one.width}" + (f"\n{static}" if static else ""), pad=4)
        bar.ax.tick_params(pad=1)
    else:
        bar = figure.colorbar(image, ax=panel, fraction=0.1, pad=0.03, aspect=14)
        panel.set_title(f"width {one.width}")
        bar.ax.set_title(static.replace(" ", "\n"), fontsize=look.small, pad=3)
    bar.ax.tick_params(length=2)
    bar.outline.set_linewidth(0.4)
    bar.locator = MaxNLocator(nbins=3 if look.narrow else 4)
    bar.update_ticks()
    if one.static.n:
        # Black on white: the bar goes from dark to light.
        for colour, thickness in (("white", 2.6), ("black", 1.2)):
            line = bar.ax.axvline if look.narrow else bar.ax.axhline
            line(one.static.mean, color=colour, linewidth=thickness)


def _scale(one: Map) -> tuple[float, float]:
    values = one.means[~np.isnan(one.means)].tolist() + [one.static.mean] * bool(one.static.n)
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high - low < 1e-3:
        # A scale over nothing would paint noise as structure.
        middle = (low + high) / 2
        low, high = middle - 5e-4, middle + 5e-4
    return low, high


def _ticks(panel: Axes, one: Map) -> None:
    for axis, values in ((panel.xaxis, one.periods), (panel.yaxis, one.amplitudes)):
        every = -(-len(values) // 8)
        axis.set_ticks(range(0, len(values), every), [f"{v:g}" for v in values[::every]])
    panel.tick_params(length=0)
    for side in ("top", "right"):
        panel.spines[side].set_visible(True)


def _write_cells(panel: Axes, one: Map, image: Any, look: Look, written: bool) -> None:
    from matplotlib.patches import Rectangle

    crowded = one.means.size > 150
    for i, j in np.ndindex(one.means.shape):
        value = float(one.means[i, j])
        ink = look.grey
        if np.isnan(value):
            box = Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, hatch="///", ec=look.grey, lw=0)
            panel.add_patch(box)
        else:
            red, green, blue, _ = image.to_rgba(value)
            ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
            if written:
                panel.text(j, i, _text(value, float(one.halves[i, j])), color=ink, **_type(look))
        if one.against[i, j] and not crowded:
            marker = "^" if one.against[i, j] > 0 else "v"
            at = (j + 0.38, i + 0.36) if written else (j, i)
            panel.plot(*at, marker, color=ink, markersize=2.4, markeredgewidth=0)
        if one.lost[i, j] and not crowded:
            text = f"{one.lost[i, j]}×" if written else "×"
            at = (j - 0.46, i + 0.46) if written else (j - 0.1, i + 0.4)
            panel.text(*at, text, color=ink, ha="left", va="top", fontsize=look.small)
    if one.best is not None:
        i, j = one.best
        box = Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, fill=False, ec=look.colours[1], lw=1.5)
        panel.add_patch(box)


def _text(mean: float, half: float) -> str:
    digits = 3 if abs(mean) < 10 else 1
    text = f"{mean:.{digits}f}"
    if np.isnan(half):
        return text
    return f"{text}\n±{half:.{digits}f}".replace("±0.", "±.")


def _type(look: Look) -> dict[str, Any]:
    return {"ha": "center", "va": "center", "fontsize": look.small, "linespacing": 1.0}


def _draw_best(panel: Axes, maps: Sequence[Map], metric: str, look: Look, alone: bool) -> None:
    """Static and the best cell of each width, with intervals; `alone` in its row or beside maps."""
    widths = np.array([one.width for one in maps], dtype=float)
    static = [one.static for one in maps]
    best = [one.best_estimate for one in maps]
    for found, shift, colour, marker, label in (
        (static, 0.96, look.ink, "o", "static"),
        (best, 1.04, look.colours[1], "s", "best cell"),
    ):
        means = np.array([e.mean for e in found])
        if np.isnan(means).all():
            continue
        half = np.array([e.high - e.mean for e in found])
        panel.errorbar(
            widths * shift,
            means,
            np.nan_to_num(half),
            color=colour,
            marker=marker,
            markersize=3,
            linewidth=0.9,
            elinewidth=0.9,
            capsize=1.5,
            label=label,
        )
    panel.set_xscale("log")
    panel.set_xticks(widths, [f"{w:g}" for w in widths])
    panel.minorticks_off()
    panel.set_xlabel("width")
    panel.set_ylabel(said(metric))
    # In a narrow figure there is no room for a title, and the figure's own has it. Beside a map it
    # is none of the layout's, which would push the map's bar away from it.
    if not look.narrow and alone:
        panel.set_title("mean ± 95% interval")
    elif not look.narrow:
        text = panel.text(0.5, 1.03, "mean ± 95% interval", transform=panel.transAxes, ha="center")
        text.set_in_layout(False)
    panel.margins(x=0.08, y=0.08)
    panel.legend(loc="best", handletextpad=0.4, borderaxespad=0.2)
