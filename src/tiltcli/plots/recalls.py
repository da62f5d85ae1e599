"""Learning curves of each class: a panel per cell, which shows the class that is emphasised."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from tiltcli.errors import UserError, with_suggestion
from tiltcli.evaluation.cells import choosing_metric, gather
from tiltcli.evaluation.facets import cell_name, check_panels, group_keys, groups, named
from tiltcli.evaluation.learning_curves import learning_curves
from tiltcli.plots.curves import draw, which
from tiltcli.plots.style import PAPER, Look

METRICS = ("train_recall", "val_recall")
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
    if metric not in METRICS:
        raise UserError(with_suggestion(f"--metric: got {metric}", metric, METRICS))
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
