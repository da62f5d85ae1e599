"""Learning curves: mean over the seeds with its interval, a panel per width."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tiltcli.plots.style import PAPER, Look, new_figure, style
from tiltcli.records import METRIC_COLUMNS, UserError, listing, nearest
from tiltcli.statistics import mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CELLS, MOST_COLUMNS, MOST_POINTS = 4, 3, 200
_NUMBERS = [c.name for c in METRIC_COLUMNS if c.type == "float64"]


def curves(
    jobs: pd.DataFrame,
    metrics: pd.DataFrame,
    metric: str = "train_accuracy",
    title: str = "",
    look: Look = PAPER,
) -> Figure:
    """Draw a metric against the epoch, static beside dynamical.

    Of many cells the four with the best mean at the end are drawn at each width, and the legend
    says how many there are. Bands are 95% intervals of the mean over the jobs of a cell.

    Args:
        jobs: jobs table.
        metrics: metrics table.
        metric: its column to draw.
        title: name of the run.
        look: style and width.

    Raises:
        UserError: if the metric is unknown or empty.

    """
    if metric not in _NUMBERS:
        close = nearest(metric, _NUMBERS)
        hint = f"; did you mean {close}?" if close else ""
        raise UserError(f"--metric: no column {metric}; allowed: {listing(_NUMBERS)}{hint}")
    if metrics[metric].isna().all():
        raise UserError(f"--metric: {metric} is empty: the data has no such part")
    widths = sorted(jobs["model.width"].unique())
    columns = min(MOST_COLUMNS, len(widths))
    rows = -(-len(widths) // columns)
    with style(look):
        figure = new_figure(look, 0.5 + 1.9 * rows)
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
        for panel in panels[len(widths) :]:
            panel.remove()
        for number, (panel, width) in enumerate(zip(panels, widths, strict=False)):
            own = jobs[jobs["model.width"] == width]
            static = own[own["loss.kind"] == "static"]
            if len(static):
                _band(panel, static, metrics, metric, look.ink, "static")
            cells = _best_cells(own[own["loss.kind"] == "dynamical"], metrics, metric)
            for (label, cell), colour in zip(cells[:MOST_CELLS], look.colours, strict=False):
                _band(panel, cell, metrics, metric, colour, label)
            more = f" (best {MOST_CELLS} of {len(cells)})" if len(cells) > MOST_CELLS else ""
            panel.set_title(f"width {width}{more}")
            panel.legend(frameon=True, framealpha=0.75, edgecolor="none")
            panel.locator_params(axis="x", nbins=4)
            if number % columns == 0:
                panel.set_ylabel(metric.replace("_", " "))
            if number + columns >= len(widths):
                panel.set_xlabel("epoch")
                panel.tick_params(labelbottom=True)
            if metric.endswith("loss"):
                panel.set_yscale("log")
        figure.suptitle(f"{title + ': ' if title else ''}mean over seeds, band: 95% interval")
    return figure


def _best_cells(
    jobs: pd.DataFrame, metrics: pd.DataFrame, metric: str
) -> list[tuple[str, pd.DataFrame]]:
    """Cells with their labels, the best mean at the end first."""
    last = metrics.groupby("job")[metric].last()
    ranked = []
    for (amplitude, period), cell in jobs.groupby(["loss.amplitude", "loss.period"]):
        score = float(last.reindex(cell["job"]).mean())
        sign = 1 if metric.endswith("loss") else -1
        order = sign * score if np.isfinite(score) else np.inf
        ranked.append((order, amplitude, period, f"A {amplitude:g}, T {period:g}", cell))
    ranked.sort(key=lambda one: one[:3])
    return [(label, cell) for *_, label, cell in ranked]


def _band(
    panel: Axes,
    jobs: pd.DataFrame,
    metrics: pd.DataFrame,
    metric: str,
    colour: str,
    label: str,
) -> None:
    rows = metrics[metrics["job"].isin(jobs["job"])]
    table = rows.pivot(index="epoch", columns="job", values=metric)
    if len(table) > MOST_POINTS:
        table = table.iloc[np.unique(np.linspace(0, len(table) - 1, MOST_POINTS).astype(int))]
    found = [mean_interval(values) for values in table.to_numpy(dtype=float)]
    panel.plot(table.index, [e.mean for e in found], color=colour, label=label)
    if table.shape[1] > 1:
        panel.fill_between(
            table.index,
            [e.low for e in found],
            [e.high for e in found],
            color=colour,
            alpha=0.2,
            linewidth=0,
        )
