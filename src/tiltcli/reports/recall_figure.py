"""Learning curves of each class, of a run that kept its recalls: which class is emphasised."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiltcli.reports.loaded_runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def recall_figure(run: Run) -> Figure | None:
    """Return the figure of `tiltcli plot recall`; None if no recalls were kept."""
    rows = run.tables.recall
    if rows.empty:
        return None
    from tiltcli.plots.recalls import recalls

    return recalls(run.tables.jobs, rows, title=run.name)
