"""Maps of cells over two settings, the phase diagram of amplitude × period first of all.

A panel for each combination of what else varies; and the best of each panel beside static.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from tiltcli.evaluation.facets import short, value_text
from tiltcli.evaluation.phase_map import AMPLITUDE, PERIOD, STATIC, Map, phase_maps
from tiltcli.plots.style import PAPER, Look, grid_of, name_edges, said, span, within, wrapped

_ROW = 0.31  # height of a row of cells, inches
# What is around the cells of a panel, inches: height and width, with the bar beside or above.
_BESIDE, _ABOVE = (0.52, 0.95), (0.78, 0.38)
_LINE = 0.14  # height of a line of a title, inches
_LEAST = 0.62  # of the cells of a panel: less, and its bar has no room
_NAMES = {AMPLITUDE: "amplitude A", PERIOD: "period T (steps)"}


def phase(
    jobs: pd.DataFrame,
    metric: str = "val_accuracy",
    title: str = "",
    look: Look = PAPER,
    x: str = PERIOD,
    y: str = AMPLITUDE,
) -> Figure:
    """Return a figure of cells over two settings, a panel for each combination of the others.

    Each has a colour scale of its own: what a width reaches differs more between widths than
    between cells. A triangle marks cells whose paired difference from static has an interval that
    leaves out zero. With several panels over amplitude and period a last one shows static and the
    best of each.
    """
    kind = "phase" if (x, y) == (PERIOD, AMPLITUDE) else "map"
    maps = phase_maps(jobs, metric, x, y, kind)
    keys = {key for one in maps for key in one.settings}
    summary = kind == "phase" and len(maps) > 1 and len(keys) == 1
    panels_needed = len(maps) + summary
    columns = look.columns(panels_needed, 2.6)
    rows = -(-panels_needed // columns)
    around = _ABOVE if look.narrow else _BESIDE
    size = look.theme.text / 8.0
    room = look.width / columns - size * around[1]  # for the cells of a panel, inches
    cell = 72 * room / len(maps[0].xs)
    # Five characters of the smallest type; less than that and colour alone has to do.
    written = cell > 3.1 * look.small
    high = _ROW + _LINE * any(one.lost.any() for one in maps)
    row = size * high if written else min(_ROW, max(0.14, 1.3 / len(maps[0].ys)))
    names = [wrapped(one.name, _fitting(72 * room, look)) for one in maps]
    lines = max(name.count("\n") for name in names)
    with look.applied():
        height = size * (around[0] + _LINE * lines) + max(row * len(maps[0].ys), _LEAST)
        figure = look.figure(0.6 * size + rows * height)
        panels = grid_of(figure, panels_needed, columns)
        for panel, one, name in zip(panels, maps, names, strict=False):
            _draw(figure, panel, one, name, metric, look, written)
            _ticks(panel.xaxis, x, one.xs, _fitting(cell, look))
            _ticks(panel.yaxis, y, one.ys)
        name_edges(panels[: len(maps)], columns, _axis(x), _axis(y))
        if summary:
            alone = len(maps) % columns == 0
            _draw_best(panels[len(maps)], maps, keys.pop(), metric, look, alone=alone)
        figure.suptitle(_title(maps, metric, title, written, look))
        figure.supxlabel(_legend(maps, written, look), fontsize=look.small)
    return figure


def _axis(key: str) -> str:
    return _NAMES.get(key, short(key).replace("_", " "))


def _fitting(points: float, look: Look) -> int:
    """Characters of a text that is so many points wide, about."""
    return max(int(points / (0.6 * look.theme.text)), 1)


def _title(maps: Sequence[Map], metric: str, title: str, written: bool, look: Look) -> str:
    counts = [n for one in maps for n in one.counted[one.jobs > 0]]
    kind = "mean ± 95% interval" if written and max(counts) > 1 else "mean"
    name = f"{title}: " if title else ""
    text = f"{name}{said(metric)}, {kind}, n = {span(counts)} per cell"
    return text if not look.narrow else text.replace(", mean", "\nmean")


def _legend(maps: Sequence[Map], written: bool, look: Look) -> str:
    parts = ["boxed: best cell"]
    if any(one.static.n for one in maps):
        parts.append("line on the bar: static")
    if any(one.against.any() for one in maps):
        parts.append("▲▼: above, below static (95%, each cell by itself)")
    if any(one.lost.any() for one in maps):
        lost = "lost" if written else "×"
        parts.append(f"{lost}: diverged (counts as chance at most) or failed")
    return look.packed(parts)


def _draw(
    figure: Figure, panel: Axes, one: Map, name: str, metric: str, look: Look, written: bool
) -> None:
    low, high = _scale(one, metric)
    margin = 0.02 * (high - low)  # so that a mark at either end is seen whole
    image = panel.imshow(
        np.where(one.lost < one.jobs, one.means, np.nan),
        cmap="cividis",
        vmin=low - margin,
        vmax=high + margin,
        origin="lower",
        aspect="auto",
    )
    _write_cells(panel, one, image, look, written)
    for line, values in ((panel.axhline, one.ys), (panel.axvline, one.xs)):
        if values[0] == STATIC:
            line(0.5, color=look.theme.page, linewidth=2.0)
    panel.tick_params(length=0)
    for side in ("top", "right"):
        panel.spines[side].set_visible(True)
    static = f"static {one.static.mean:.3f}" if one.static.n else ""
    if look.narrow:
        bar = figure.colorbar(image, ax=panel, location="top", fraction=0.06, pad=0.02, aspect=22)
        bar.ax.set_title("\n".join(filter(None, (name, static))), pad=4)
        bar.ax.tick_params(pad=1)
    else:
        bar = figure.colorbar(image, ax=panel, fraction=0.1, pad=0.03, aspect=14)
        panel.set_title(name)
        bar.ax.set_title(static.replace(" ", "\n"), fontsize=look.small, pad=6)
    bar.ax.tick_params(length=2)
    bar.outline.set_linewidth(0.4)
    bar.locator = MaxNLocator(nbins=2 if look.narrow else 4)
    bar.update_ticks()
    if one.static.n:
        # Black on white: the bar goes from dark to light.
        for colour, thickness in (("white", 2.6), ("black", 1.2)):
            line = bar.ax.axvline if look.narrow else bar.ax.axhline
            line(one.static.mean, color=colour, linewidth=thickness)


def _scale(one: Map, metric: str) -> tuple[float, float]:
    """Ends of the colours: of what lost no job, or chance would leave no colour for the rest."""
    known = ~np.isnan(one.means)
    whole = known & (one.lost == 0)
    values = one.means[whole if whole.any() else known].tolist()
    values += [one.static.mean] * bool(one.static.n)
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high - low < 1e-3:
        # A scale over nothing would paint noise as structure.
        middle = (low + high) / 2
        high = within(metric, middle + 5e-4)
        low = high - 1e-3
    return low, high


def _ticks(axis: Any, key: str, values: Sequence[Any], room: int | None = None) -> None:
    """Name the cells along an axis; `room`: characters that fit beneath one."""
    names = [value if value == STATIC else value_text(key, value) for value in values]
    every = -(-len(values) // 8)
    axis.set_ticks(range(0, len(values), every), names[::every])
    if room is not None and max(map(len, names[::every])) >= room * every:
        for label in axis.get_ticklabels():
            label.set(rotation=30, ha="right", rotation_mode="anchor")


def _write_cells(panel: Axes, one: Map, image: Any, look: Look, written: bool) -> None:
    crowded = one.means.size > 150
    for i, j in np.argwhere(one.jobs > 0):
        value = float(one.means[i, j])
        ink = look.ink
        behind: dict[str, Any] = {}
        if one.lost[i, j] == one.jobs[i, j]:
            cell = Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, hatch="///", ec=look.grey, lw=0)
            panel.add_patch(cell)
            # Letters on hatching cannot be read.
            behind = {"bbox": {"facecolor": look.theme.page, "edgecolor": "none", "pad": 1.0}}
        elif not np.isnan(value):
            ink = _readable(image.to_rgba(value)[:3])
        lost = int(one.lost[i, j])
        if written:
            text = _text(value, float(one.halves[i, j]), lost)
            middle: dict[str, Any] = {"ha": "center", "va": "center", "linespacing": 1.0}
            panel.text(j, i, text, color=ink, fontsize=look.small, **middle, **behind)
        if one.against[i, j] and not crowded:
            marker = "^" if one.against[i, j] > 0 else "v"
            at = (j + 0.38, i + 0.36) if written else (j, i)
            panel.plot(*at, marker, color=ink, markersize=2.4, markeredgewidth=0)
        if lost and not written and not crowded:
            panel.text(j, i + 0.4, "×", color=ink, ha="center", va="top", fontsize=look.small)
    if one.best is not None:
        i, j = one.best
        box = Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, fill=False, ec=look.colours[1], lw=1.5)
        panel.add_patch(box)


def _readable(behind: Sequence[float]) -> str:
    """Black or white, whichever has the higher contrast (WCAG 2.2) to a colour in sRGB."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in behind]
    luminance = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
    return "black" if (luminance + 0.05) ** 2 > 0.05 * 1.05 else "white"


def _text(mean: float, half: float, lost: int) -> str:
    digits = 3 if abs(mean) < 10 else 1
    lines = [] if np.isnan(mean) else [f"{mean:.{digits}f}"]
    lines += [] if np.isnan(half) else [f"±{half:.{digits}f}".replace("±0.", "±.")]
    return "\n".join([*lines, f"{lost} lost"] if lost else lines)


def _draw_best(
    panel: Axes, maps: Sequence[Map], key: str, metric: str, look: Look, alone: bool
) -> None:
    """Static and the best cell of each panel, with intervals; `alone` in its row or beside maps."""
    values = [one.settings[key] for one in maps]
    numbers = [v for v in values if isinstance(v, int | float | np.number) and v > 0]
    logarithmic = len(numbers) == len(maps)
    places = np.array(numbers if logarithmic else range(len(maps)), dtype=float)
    for found, side, colour, marker, label in (
        ([one.static for one in maps], -1, look.ink, "o", "static"),
        ([one.best_estimate for one in maps], 1, look.colours[1], "s", "best cell"),
    ):
        means = np.array([e.mean for e in found])
        if np.isnan(means).all():
            continue
        half = np.nan_to_num([e.high - e.mean for e in found])
        panel.errorbar(
            places * (1 + 0.04 * side) if logarithmic else places + 0.08 * side,
            means,
            (half, within(metric, means + half) - means),
            color=colour,
            label=label,
            marker=marker,
            markersize=3,
            linewidth=0.9,
            elinewidth=0.9,
            capsize=1.5,
        )
    if logarithmic:
        panel.set_xscale("log")
    panel.set_xticks(places, [value_text(key, value) for value in values])
    panel.minorticks_off()
    panel.set_xlabel(_axis(key))
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
