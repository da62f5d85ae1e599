"""What a method can be expected to reach, by the number of cells tried: a panel per row."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from matplotlib.figure import Figure

from tiltcli.evaluation.facets import named
from tiltcli.evaluation.tuning import Budget
from tiltcli.plots.style import PAPER, Look, grid_of, legend_below, name_edges, said, span, within

LINES = ("-", "--", ":", "-.")


def budget(
    curves: Sequence[Budget], metric: str, chosen_by: str, title: str, look: Look = PAPER
) -> Figure:
    """Return a figure of the expected value of the cell that validation picks among k at random."""
    rows = [(row, list(own)) for row, own in groupby(curves, lambda one: one.candidate.row)]
    names = list(dict.fromkeys(one.candidate.name for one in curves))
    columns = look.columns(len(rows))
    with look.applied():
        colours = [look.ink, *look.colours[1:]]
        figure = look.figure(0.95 + 1.5 * -(-len(rows) // columns))
        axes = grid_of(figure, len(rows), columns, sharex=True)
        for panel, (row, own) in zip(axes, rows, strict=True):
            for one in own:
                at, tried = names.index(one.candidate.name), range(1, len(one.expected) + 1)
                colour = colours[at % len(colours)]
                mean, low, high = zip(*((e.mean, e.low, e.high) for e in one.expected), strict=True)
                panel.plot(
                    tried,
                    mean,
                    label=one.candidate.name,
                    color=colour,
                    linestyle=LINES[at // len(colours) % len(LINES)],
                    # A method of one cell is a point.
                    marker="o" if len(tried) == 1 else "",
                    markersize=3.5,
                    # The first line is the thickest, so that those that agree are all seen.
                    linewidth=max(2.4 - 0.5 * at, 0.9),
                    zorder=3 if len(tried) == 1 else 2,
                )
                panel.fill_between(tried, low, high, color=colour, alpha=0.15, linewidth=0)
            panel.set_title(named(row))
            panel.set_xscale("log", base=2)
            panel.xaxis.set_major_formatter("{x:g}")
            panel.margins(x=0.02)
            bottom, top = panel.get_ylim()
            panel.set_ylim(bottom, min(top, float(within(metric, top)) + 0.05 * (top - bottom)))
        name_edges(axes, columns, "cells tried", said(metric))
        gap = "\n" if look.narrow else " "
        figure.suptitle(
            f"{title}: expected {said(metric)} of the cell that{gap}{said(chosen_by)} picks among "
            f"k tried;\nmean of {span(one.replicates for one in curves)} replicates, "
            "band: 95% interval"
        )
        legend_below(figure, axes, 2 if look.narrow else 4)
    return figure
