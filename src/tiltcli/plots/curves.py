"""Learning curves: static against the best dynamical cell, a panel per width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tiltcli.errors import METRIC_COLUMNS, UserError, with_suggestion
from tiltcli.evaluation.cells import best_cell, judge
from tiltcli.plots.style import PAPER, Look, new_figure, said, style
from tiltcli.statistics import mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_POINTS = 200
_NUMBERS = [c.name for c in METRIC_COLUMNS if c.type == "float64"]


def curves(
    jobs: pd.DataFrame,
    metrics: pd.DataFrame,
    metric: str = "train_accuracy",
    title: str = "",
    look: Look = PAPER,
) -> Figure:
    """Draw a metric against the epoch, static beside the best dynamical cell.

    The best cell of a width is the one with the highest mean final validation accuracy (training
    accuracy, if there is no validation set) among those that lost no job. Bands are 95% intervals
    of the mean over the seeds.

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
        raise UserError(with_suggestion(f"--metric: no column {metric}", metric, _NUMBERS))
    if metrics[metric].isna().all():
        raise UserError(f"--metric: {metric} is empty: the data has no such part")
    widths = sorted(jobs["model.width"].unique())
    columns = min(len(widths), 2 if look.narrow else max(3, int(look.width / 2.4)))
    rows = -(-len(widths) // columns)
    judged = judge(jobs)
    seeds: set[int] = set()
    with style(look):
        figure = new_figure(look, 0.75 + 1.45 * rows)
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for panel in axes[len(widths) :]:
            panel.remove()
        for number, (panel, width) in enumerate(zip(axes, widths, strict=False)):
            own = jobs[jobs["model.width"] == width]
            static = own[own["loss.kind"] == "static"]
            best = best_cell(own, judged)
            if len(static):
                seeds.add(_band(panel, static, metrics, metric, look.ink, "static"))
            if best is not None:
                seeds.add(_band(panel, best.jobs, metrics, metric, look.colours[1], "dynamical"))
            panel.set_title(f"width {width}" + (f": {best.label}" if best else ""))
            panel.locator_params(axis="x", nbins=4)
            if number % columns == 0:
                panel.set_ylabel(said(metric))
            if number + columns >= len(widths):
                panel.set_xlabel("epoch")
                panel.tick_params(labelbottom=True)
        if metric.endswith("loss"):
            axes[0].set_yscale("log")
        elif metric.endswith("accuracy"):
            low, high = axes[0].get_ylim()
            axes[0].set_ylim(max(low, 0.0), min(high, 1.01))
        name = f"{title}: " if title else ""
        n = f"{min(seeds)} to {max(seeds)}" if len(seeds) > 1 else str(max(seeds, default=0))
        gap = "\n" if look.narrow else " "
        band = f",{gap}band: 95% interval" if max(seeds, default=0) > 1 else ""
        figure.suptitle(f"{name}mean over n = {n} seeds{band}")
        _legend(figure, list(axes[: len(widths)]), judged, look)
    return figure


def _legend(figure: Figure, panels: Sequence[Axes], judged: str, look: Look) -> None:
    lines = {str(line.get_label()): line for panel in panels for line in panel.lines}
    if "dynamical" in lines:
        which = "best cell" if look.narrow else f"the cell with the best final {said(judged)}"
        lines[f"dynamical, {which}"] = lines.pop("dynamical")
    figure.legend(list(lines.values()), list(lines), loc="outside lower center", ncols=2)


def _band(
    panel: Axes,
    jobs: pd.DataFrame,
    metrics: pd.DataFrame,
    metric: str,
    colour: str,
    label: str,
) -> int:
    """Draw one side; returns its number of jobs."""
    rows = metrics[metrics["job"].isin(jobs["job"])]
    table = rows.pivot(index="epoch", columns="job", values=metric)
    if len(table) > MOST_POINTS:
        table = table.iloc[np.unique(np.linspace(0, len(table) - 1, MOST_POINTS).astype(int))]
    found = [mean_interval(values) for values in table.to_numpy(dtype=float)]
    panel.plot(table.index, [e.mean for e in found], color=colour, label=label)
    if table.shape[1] > 1:
        low, high = [e.low for e in found], [e.high for e in found]
        panel.fill_between(table.index, low, high, color=colour, alpha=0.2, linewidth=0)
    return table.shape[1]
