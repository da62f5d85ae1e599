"""A comparison as differences with their intervals, one line per row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiltcli.comparison import Comparison
from tiltcli.plots.style import PAPER, Look, new_figure, style
from tiltcli.tables import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ROWS = 40


def forest(comparison: Comparison, look: Look = PAPER) -> Figure:
    """Draw mean differences b − a with 95% intervals, a panel per metric.

    Beyond 40 rows only the first (the best of each group) are drawn, and the title says so.
    """
    keys = [*comparison.groups, *comparison.cells]
    first = comparison.rows[comparison.rows["metric"] == comparison.metrics[0]]
    shown = first.head(MOST_ROWS)
    labels = [
        ", ".join(f"{key.rpartition('.')[2]} {plain(row[key])}" for key in keys)
        for _, row in shown.iterrows()
    ]
    with style(look):
        figure = new_figure(look, 0.9 + 0.2 * len(shown))
        panels = figure.subplots(1, len(comparison.metrics), sharey=True, squeeze=False)[0]
        for panel, metric in zip(panels, comparison.metrics, strict=True):
            rows = comparison.rows[comparison.rows["metric"] == metric].head(MOST_ROWS)
            panel.axvline(0, color=look.grey, linewidth=0.8)
            for y, (_, row) in enumerate(rows.iterrows()):
                colour = (
                    look.colours[1] if row["regime"] == "underparameterised" else look.colours[0]
                )
                if row["regime"] == "unknown":
                    colour = look.grey
                panel.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=1.6)
                panel.plot([row["difference"]], [y], "o", color=colour, markersize=4)
            panel.set_xlabel(f"difference in {metric.replace('_', ' ')}")
        panels[0].set_yticks(range(len(labels)), labels)
        panels[0].set_ylim(len(labels) - 0.5, -0.5)
        cut = f" (first {MOST_ROWS} of {len(first)} rows)" if len(first) > MOST_ROWS else ""
        figure.suptitle(
            f"{comparison.name_b} − {comparison.name_a}{cut}\n"
            "mean of pairs with 95% interval; orange: underparameterised, blue: overparameterised"
        )
    return figure
