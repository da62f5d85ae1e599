"""What a method can be expected to reach, by the number of cells tried: a panel per row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tiltcli.evaluation.facets import named
from tiltcli.evaluation.tuning import Budget
from tiltcli.plots.style import PAPER, Look, new_figure, said, style, within

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINES = ("-", "--", ":", "-.")


def budget(
    curves: Sequence[Budget], metric: str, chosen_by: str, title: str, look: Look = PAPER
) -> Figure:
    """Return a figure of the expected value of the cell that validation picks among k at random."""
    rows = list(dict.fromkeys(tuple(one.candidate.row.items()) for one in curves))
    names = list(dict.fromkeys(one.candidate.name for one in curves))
    columns = min(len(rows), 2 if look.narrow else max(3, int(look.width / 2.4)))
    lines = -(-len(rows) // columns)
    replicates = sorted({one.replicates for one in curves})
    with style(look):
        colours = [look.ink, *look.colours[1:]]
        figure = new_figure(look, 0.95 + 1.5 * lines)
        axes = figure.subplots(lines, columns, squeeze=False, sharex=True).ravel()
        for panel in axes[len(rows) :]:
            panel.remove()
        for number, (panel, row) in enumerate(zip(axes, rows, strict=False)):
            for one in curves:
                if tuple(one.candidate.row.items()) != row:
                    continue
                at = names.index(one.candidate.name)
                tried = range(1, len(one.expected) + 1)
                look_of = {
                    "color": colours[at % len(colours)],
                    "linestyle": LINES[at // len(colours) % len(LINES)],
                    # A method of one cell is a point.
                    "marker": "o" if len(tried) == 1 else "",
                    "markersize": 3.5,
                    # The first line is the thickest, so that those that agree are all seen.
                    "linewidth": max(2.4 - 0.5 * at, 0.9),
                    "zorder": 3 if len(tried) == 1 else 2,
                }
                mean, low, high = zip(*((e.mean, e.low, e.high) for e in one.expected), strict=True)
                panel.plot(tried, mean, label=one.candidate.name, **look_of)
                panel.fill_between(
                    tried, low, high, color=look_of["color"], alpha=0.15, linewidth=0
                )
            panel.set_title(named(dict(row)))
            panel.set_xscale("log", base=2)
            panel.xaxis.set_major_formatter("{x:g}")
            panel.margins(x=0.02)
            low, high = panel.get_ylim()
            panel.set_ylim(low, min(high, float(within(metric, high)) + 0.05 * (high - low)))
            if number % columns == 0:
                panel.set_ylabel(said(metric))
            if number + columns >= len(rows):
                panel.set_xlabel("cells tried")
                panel.tick_params(labelbottom=True)
        n = str(replicates[0]) if len(replicates) == 1 else f"{replicates[0]} to {replicates[-1]}"
        gap = "\n" if look.narrow else " "
        figure.suptitle(
            f"{title}: expected {said(metric)} of the cell that{gap}{said(chosen_by)} picks among "
            f"k tried;\nmean of {n} replicates, band: 95% interval"
        )
        handles = {str(h.get_label()): h for panel in axes[: len(rows)] for h in panel.lines}
        figure.legend(
            list(handles.values()),
            list(handles),
            loc="outside lower center",
            ncols=2 if look.narrow else 4,
        )
    return figure
