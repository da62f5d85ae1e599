"""A comparison as differences with their intervals, one line per row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tiltcli.evaluation.cells import OVER, UNDER, UNKNOWN
from tiltcli.evaluation.comparison import UNDECIDED, Comparison
from tiltcli.evaluation.facets import named
from tiltcli.plots.style import PAPER, Look, legend_below, said, span

MOST_ROWS = 40
LEAST = 1e-3
"""Width of the axis of differences."""


def forest(comparison: Comparison, look: Look = PAPER) -> Figure:
    """Return a figure of mean differences b − a with 95% intervals, a panel per metric.

    A filled mark is of a difference that is decided, as the table has it. Beyond 40 rows only the
    first (the best of each group) are drawn, and the title says so.
    """
    metrics = [m for m in comparison.metrics if _rows(comparison, m)["n"].gt(0).any()]
    metrics = metrics or list(comparison.metrics)
    first = _rows(comparison, metrics[0])
    labels = _labels(comparison, first.head(MOST_ROWS))
    regimes = [r for r in (UNDER, OVER, UNKNOWN) if first["regime"].eq(r).any()]
    rows, columns = (len(metrics), 1) if look.narrow else (1, len(metrics))
    alike = len({metric.rpartition("_")[2] for metric in metrics}) == 1
    with look.applied():
        figure = look.figure(0.85 + rows * (0.4 + 0.19 * len(labels)))
        panels = figure.subplots(rows, columns, sharex=alike, sharey=True, squeeze=False).ravel()
        for number, (panel, metric) in enumerate(zip(panels, metrics, strict=True)):
            panel.axvline(0, color=look.grey, linewidth=0.8)
            for y, (_, row) in enumerate(_rows(comparison, metric).head(MOST_ROWS).iterrows()):
                _mark(panel, y, row, look)
            low, high = panel.get_xlim()
            if high - low < LEAST:  # differences of nothing but rounding
                panel.set_xlim(-LEAST, LEAST)
            gap = "\n" if look.narrow or columns > 1 else " "  # long names would meet
            panel.set_xlabel(f"difference in{gap}{said(metric)}")
            panel.tick_params(labelbottom=True)
            panel.tick_params(axis="y", length=0)
            # Beside long names three panels have room for few ticks.
            crowded = columns > 2 and max(map(len, labels)) > 30
            panel.locator_params(axis="x", nbins=3 if crowded else 5)
            if look.narrow or not number:
                panel.set_yticks(range(len(labels)), labels)
        panels[0].set_ylim(len(labels) - 0.5, -0.5)
        figure.suptitle(_title(comparison, first, look))
        if regimes != [UNKNOWN]:
            for regime in regimes:
                name = "regime unknown" if regime == UNKNOWN else regime
                colour = _colour(regime, look)
                panels[0].plot([], [], "o", color=colour, markersize=3.5, label=name)
            legend_below(figure, panels[:1], 3, columnspacing=1.0, handletextpad=0.1)
    return figure


def _rows(comparison: Comparison, metric: str) -> pd.DataFrame:
    return comparison.rows[comparison.rows["metric"] == metric]


def _labels(comparison: Comparison, rows: pd.DataFrame) -> list[str]:
    found = []
    for _, row in rows.iterrows():
        cells = named({key: row[key] for key in comparison.cells if pd.notna(row[key])})
        groups = named({key: row[key] for key in comparison.groups})
        found.append(groups + (f" ({cells})" if cells else ""))
    return found


def _colour(regime: str, look: Look) -> str:
    return {UNDER: look.colours[1], OVER: look.colours[0]}.get(regime, look.grey)


def _mark(panel: Axes, y: int, row: pd.Series[Any], look: Look) -> None:
    colour = _colour(str(row["regime"]), look)
    told = row["verdict"] != UNDECIDED
    panel.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=1.3)
    face = colour if told else look.theme.page
    panel.plot(row["difference"], y, "o", color=colour, markerfacecolor=face, markersize=4)


def _title(comparison: Comparison, rows: pd.DataFrame, look: Look) -> str:
    lines = [*_names(comparison, look), f"mean of n = {span(rows['n'])} pairs, 95% interval"]
    if comparison.rows["verdict"].eq(UNDECIDED).any():
        lines[-1] += ("\n" if look.narrow else "; ") + "open: undecided"
    if len(rows) > MOST_ROWS:
        lines.append(f"first {MOST_ROWS} of {len(rows)} rows")
    return "\n".join(lines)


def _names(comparison: Comparison, look: Look) -> Sequence[str]:
    """What is taken from what; said short where one run's losses are compared."""
    a, b = comparison.name_a, comparison.name_b
    for end_a, end_b in (("static", "dynamical"), ("dynamical", "static")):
        same = a.removesuffix(f"loss.kind={end_a}")
        if same != a and same == b.removesuffix(f"loss.kind={end_b}"):
            return [f"{same.rstrip('@,')}: {end_b} − {end_a}".removeprefix(": ")]
    if {a, b} == {"static", "dynamical"} or len(a) + len(b) < (50 if look.narrow else 100):
        return [f"{b} − {a}"]
    return [b, f"− {a}"]
