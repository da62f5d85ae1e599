"""Where a run's cells were chosen, and on what machine it was made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tiltcli.errors import UserError
from tiltcli.evaluation.cells import REPLICATES
from tiltcli.evaluation.confirmation import cells_of, chosen_cells
from tiltcli.grid.settings import PATHS
from tiltcli.reports.loaded_runs import Run
from tiltcli.store import provenance


def where_chosen(run: Run, runs: Sequence[Run]) -> tuple[bool | None, str]:
    """Whether a run's cells are those that another run's validation chose, on other seeds."""
    columns = [str(name) for name in run.tables.jobs.columns if "." in str(name)]
    data = [name for name in columns if name.startswith("data.") and name != "data.seed"]
    data = [name for name in data if name not in PATHS]
    settings = [name for name in columns if name not in (*REPLICATES, *PATHS)]
    cells = cells_of(run.dynamical, settings)
    refuted = ""
    for other in runs:
        if other is run or other.cells < 2:
            continue
        jobs = other.tables.jobs
        if cells_of(jobs, data) != cells_of(run.tables.jobs, data):
            continue
        fixed = [key for key in settings if jobs[key].nunique() < 2]
        if not cells_of(run.dynamical, fixed) <= cells_of(other.dynamical, fixed):
            continue  # of other networks, other lengths …: nothing there was chosen for it
        try:
            chosen = chosen_cells(jobs, settings)
        except UserError:
            continue  # it has nothing to choose by
        again = set(run.tables.jobs["train.seed"]) & set(jobs["train.seed"])
        seeds = f"{len(again)} seeds are shared with it" if again else "on seeds it never used"
        if cells <= chosen:
            return True, f"Its cells are those that validation chose in {other.name}, {seeds}."
        refuted = refuted or (
            f"Its cells are not those that validation chooses in {other.name} ({seeds}): "
            f"`tiltcli confirm {other.name}` writes a grid of those."
        )
    if refuted:
        return False, refuted
    return None, "Where its cells were chosen is not part of this report."


def about(run: Run) -> str:
    """One sentence on what a run is made of."""
    jobs = run.tables.jobs
    counts = jobs["outcome"].value_counts()
    ended = ", ".join(f"{n} {outcome}" for outcome, n in counts.items())
    seeds = jobs["train.seed"].nunique()
    epochs = ", ".join(str(e) for e in sorted(jobs["train.epochs"].unique()))
    return (
        f"{len(jobs)} job{'s' if len(jobs) > 1 else ''} ({ended}); "
        f"{seeds} seed{'s' if seeds > 1 else ''}; {epochs} epochs; "
        f"{jobs['train_samples'].max():.0f} training samples; {jobs['seconds'].sum():.0f} "
        "core-seconds of training."
    )


def invocations(run: Run) -> list[dict[str, Any]]:
    """Every time the run was started, as its provenance has it; empty if that is unreadable."""
    return provenance.invocations(run.folder)
