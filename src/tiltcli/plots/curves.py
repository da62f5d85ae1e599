"""Learning curves: static against the best tilted cell, a panel per group of cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tiltcli.errors import METRIC_COLUMNS, UserError
from tiltcli.evaluation.cells import choosing_metric, gather, metric_fault
from tiltcli.evaluation.facets import cell_name, check_panels, group_keys, groups, named
from tiltcli.evaluation.learning_curves import Curve, learning_curves
from tiltcli.plots.style import PAPER, SHARES, Look, new_figure, said, style, within, wrapped

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
    static, tilted = Pen("static", look.ink, 1.8), Pen("dynamical", look.colours[1])
    panels = [
        Panel(
            named(group.settings),
            None if group.best is None else cell_name(cells, group.best),
            int(cells.rows.loc[group.shown, "lost"].sum()),
            [
                (drawn[cell], static if cell == group.static else tilted)
                for cell in group.shown
                if cell in drawn
            ],
        )
        for group in found
    ]
    return draw(panels, metric, title, jobs, look, judged)


@dataclass(frozen=True)
class Pen:
    """How a line is drawn, and what the legend calls it."""

    label: str
    colour: str
    thickness: float = 0.9
    dashes: str = "-"


@dataclass(frozen=True)
class Panel:
    """Curves that are drawn together, the first below the others."""

    group: str
    cell: str | None
    lost: int
    lines: Sequence[tuple[Curve, Pen]]

    def title(self, room: int) -> str:
        """Title of so many characters a line."""
        name = ": ".join(filter(None, (self.group, self.cell)))
        name += f", {self.lost} lost" if self.lost else ""
        return wrapped(name if len(name) <= room else name.replace(": ", ":\n"), room)


def draw(
    panels: Sequence[Panel],
    metric: str,
    title: str,
    jobs: pd.DataFrame,
    look: Look,
    judged: str,
    columns: int | None = None,
) -> Figure:
    """Return a figure of learning curves."""
    columns = min(len(panels), columns or (2 if look.narrow else max(3, int(look.width / 2.4))))
    characters = int(60 * look.width / columns / (0.6 * look.theme.text))
    names = [panel.title(characters) for panel in panels]
    rows_needed = -(-len(panels) // columns)
    size = look.theme.text / 8.0
    lines = max(name.count("\n") for name in names)
    with style(look):
        figure = new_figure(look, size * (0.75 + (1.45 + 0.14 * lines) * rows_needed))
        axes = figure.subplots(
            rows_needed, columns, squeeze=False, sharex=True, sharey=True
        ).ravel()
        for panel in axes[len(panels) :]:
            panel.remove()
        for number, (panel, one) in enumerate(zip(axes, panels, strict=False)):
            for curve, pen in one.lines:
                _line(panel, curve, metric, pen)
            panel.set_title(names[number])
            panel.locator_params(axis="x", nbins=4)
            if number % columns == 0:
                panel.set_ylabel(said(metric))
            if number + columns >= len(panels):
                panel.set_xlabel("epoch")
                panel.tick_params(labelbottom=True)
        if metric.endswith("loss"):
            axes[0].set_yscale("log")
        elif metric.endswith(SHARES):
            low, high = axes[0].get_ylim()
            axes[0].set_ylim(max(low, 0.0), min(high, 1.01))
        name = f"{title}: " if title else ""
        seeds = sorted({curve.replicates for one in panels for curve, _ in one.lines}) or [0]
        n = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0])
        gap = "\n" if look.narrow else " "
        band = f",{gap}band: 95% interval" if seeds[-1] > 1 else ""
        draws = "data.seed" in jobs and jobs["data.seed"].nunique() > 1
        over = "replicates" if draws else "seeds"
        figure.suptitle(f"{name}mean over n = {n} {over}{band}")
        _legend(figure, list(axes[: len(panels)]), judged, look)
    return figure


def _legend(figure: Figure, panels: Sequence[Axes], judged: str, look: Look) -> None:
    lines = {str(line.get_label()): line for panel in panels for line in panel.lines}
    which = "best cell" if look.narrow else f"the cell with the best final {said(judged)}"
    head, columns = f"dynamical: {which}", 2 if look.narrow else 5
    if lines.keys() <= {"static", "dynamical"}:
        head, columns = "", 2
        if "dynamical" in lines:
            lines[f"dynamical, {which}"] = lines.pop("dynamical")
    figure.legend(
        [*lines.values()], [*lines], loc="outside lower center", ncols=columns, title=head or None
    )


def _line(panel: Axes, one: Curve, metric: str, pen: Pen) -> None:
    kept = np.unique(np.linspace(0, len(one.epochs) - 1, MOST_POINTS).astype(int))
    look: dict[str, Any] = {"color": pen.colour, "linewidth": pen.thickness}
    panel.plot(one.epochs[kept], one.mean[kept], linestyle=pen.dashes, label=pen.label, **look)
    if one.replicates > 1:
        high = within(metric, one.high[kept])
        panel.fill_between(
            one.epochs[kept], one.low[kept], high, color=pen.colour, alpha=0.2, linewidth=0
        )
