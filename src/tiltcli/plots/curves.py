"""Learning curves: static against the best tilted cell, a panel per group of cells.

And those of each class, a panel per cell, which show the class that is emphasised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tiltcli.analysis.thinning import evenly
from tiltcli.errors import METRIC_COLUMNS, UserError, with_suggestion
from tiltcli.evaluation.cells import Curve, choosing_metric, gather, learning_curves, metric_fault
from tiltcli.evaluation.facets import cell_name, check_panels, group_keys, groups, named
from tiltcli.plots.style import (
    PAPER,
    SHARES,
    Look,
    grid_of,
    legend_below,
    name_edges,
    said,
    span,
    within,
    wrapped,
)

MOST_POINTS = 200
NORMAL: dict[str, Any] = {"linewidth": 0.9}
Pen = dict[str, Any]
"""How a line is drawn, and what the legend calls it, as matplotlib takes it."""

Panel = tuple[str, int, Sequence[tuple[Curve, Pen]]]
_NUMBERS = [c.name for c in METRIC_COLUMNS if c.type == "float64"]


def curves(
    jobs: pd.DataFrame,
    metrics: pd.DataFrame,
    metric: str = "train_accuracy",
    title: str = "",
    look: Look = PAPER,
) -> Figure:
    """Figure of a metric by epoch, static beside the best tilted cell of each group."""
    if fault := metric_fault(metric, metrics, _NUMBERS):
        raise UserError(fault)
    judged = choosing_metric(jobs)
    cells = gather(jobs, [judged])
    found = groups(cells, judged)
    check_panels("curves", cells.rows, group_keys(cells), len(found))
    shown = {number for group in found for number in group.shown}
    drawn = learning_curves(cells, jobs, metrics, metric, shown)
    # The first line is the thicker one, so that two that agree are both seen.
    static: Pen = {"label": "static", "color": look.ink, "linewidth": 1.8}
    tilted: Pen = {"label": "dynamical", "color": look.colours[1]}
    panels = []
    for group in found:
        best = None if group.best is None else cell_name(cells, group.best)
        lines = [(cell, static if cell == group.static else tilted) for cell in group.shown]
        name = ": ".join(filter(None, (named(group.settings), best)))
        lost = int(cells.rows.loc[group.shown, "lost"].sum())
        panels.append((name, lost, [(drawn[cell], pen) for cell, pen in lines if cell in drawn]))
    names = {"dynamical": f"dynamical, {which(judged, look)}"}
    return draw(panels, metric, title, jobs, look, names=names)


def which(judged: str, look: Look) -> str:
    """Which of a group's tilted cells is drawn."""
    return "best cell" if look.narrow else f"the cell with the best final {said(judged)}"


def draw(
    panels: Sequence[Panel],
    metric: str,
    title: str,
    jobs: pd.DataFrame,
    look: Look,
    columns: int | None = None,
    **legend: Any,
) -> Figure:
    """Figure of panels, each a name, a count of lost jobs, and curves."""
    columns = min(len(panels), columns or look.columns(len(panels)))
    room = int(60 * look.width / columns / (0.6 * look.theme.text))
    names = [name + (f", {lost} lost" if lost else "") for name, lost, _ in panels]
    names = [wrapped(n if len(n) <= room else n.replace(": ", ":\n"), room) for n in names]
    size = look.theme.text / 8.0
    lines = max(name.count("\n") for name in names)
    with look.applied():
        height = 0.75 + (1.45 + 0.14 * lines) * -(-len(panels) // columns)
        figure = look.figure(size * height)
        axes = grid_of(figure, len(panels), columns, sharex=True, sharey=True)
        for panel, name, (_, _, curves) in zip(axes, names, panels, strict=True):
            for curve, pen in curves:
                _line(panel, curve, metric, pen)
            panel.set_title(name)
            panel.locator_params(axis="x", nbins=4)
        name_edges(axes, columns, "epoch", said(metric))
        if metric.endswith("loss"):
            axes[0].set_yscale("log")
        elif metric.endswith(SHARES):
            low, high = axes[0].get_ylim()
            axes[0].set_ylim(max(low, 0.0), min(high, 1.01))
        name = f"{title}: " if title else ""
        seeds = [curve.replicates for *_, curves in panels for curve, _ in curves]
        gap = "\n" if look.narrow else " "
        band = f",{gap}band: 95% interval" if max(seeds, default=0) > 1 else ""
        draws = "data.seed" in jobs and jobs["data.seed"].nunique() > 1
        over = "replicates" if draws else "seeds"
        figure.suptitle(f"{name}mean over n = {span(seeds)} {over}{band}")
        legend_below(figure, axes, 2 if look.narrow or "names" in legend else 5, **legend)
    return figure


def _line(panel: Axes, one: Curve, metric: str, pen: Pen) -> None:
    kept = evenly(len(one.epochs), MOST_POINTS)
    epochs = one.epochs[kept]
    panel.plot(epochs, one.mean[kept], **NORMAL | pen)
    if one.replicates > 1:
        low, high = one.low[kept], within(metric, one.high[kept])
        panel.fill_between(epochs, low, high, color=pen["color"], alpha=0.2, linewidth=0)


RECALLS = ("train_recall", "val_recall")
DASHES = ("-", "--", ":")
"""Of the classes beyond the colours that there are."""


def recalls(
    jobs: pd.DataFrame,
    rows: pd.DataFrame,
    metric: str = "train_recall",
    title: str = "",
    look: Look = PAPER,
) -> Figure:
    """Figure of each class's recall by epoch, a panel for each static and each best tilted cell."""
    if metric not in RECALLS:
        raise UserError(with_suggestion(f"--metric: got {metric}", metric, RECALLS))
    rows = rows[rows["part"] == metric.partition("_")[0]]
    if rows.empty:
        raise UserError(
            f"{title}: recall has nothing to draw; recall = true in [train] of the grid file "
            "stores the recalls of each class"
        )
    judged = choosing_metric(jobs)
    cells = gather(jobs, [judged])
    shown = [(group, cell) for group in groups(cells, judged) for cell in group.shown]
    check_panels("recall", cells.rows, group_keys(cells), len(shown))
    names = rows["class"].unique().tolist()
    kinds = [{"linestyle": dashes, "color": c} for dashes in DASHES for c in look.colours]
    if len(names) > len(kinds):
        raise UserError(f"recall: {len(names)} classes; at most {len(kinds)} can be told apart")
    drawn = {
        name: learning_curves(
            cells, jobs, own.astype({"job": object}), "recall", {cell for _, cell in shown}
        )
        for name, own in rows.groupby("class", observed=True, sort=False)
    }
    pens = {name: {"label": f"class {name}", **kinds[i]} for i, name in enumerate(names)}
    panels = [
        (
            f"{named(group.settings)}: {cell_name(cells, cell)}",
            int(cells.rows["lost"].loc[cell]),
            [(drawn[name][cell], pen) for name, pen in pens.items() if cell in drawn[name]],
        )
        for group, cell in shown
    ]
    head = f"dynamical: {which(judged, look)}"
    return draw(panels, metric, title, jobs, look, columns=2, head=head)
