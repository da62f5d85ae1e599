"""Runs as a report sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from tiltcli.errors import UserError
from tiltcli.evaluation.cells import REPLICATES, gather
from tiltcli.evaluation.comparison import METRICS, Comparison, compare
from tiltcli.evaluation.next_grids import cells_of, chosen_cells
from tiltcli.grid.settings import PATHS
from tiltcli.schedule import BLIND
from tiltcli.store import provenance
from tiltcli.store.read import Tables, find_run, read, read_jobs, read_probes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES = ("train_accuracy", "val_accuracy", "train_loss")
"""Columns of the metrics table that are averaged over the jobs of a cell."""

UNEVEN = 0.02
"""Difference from which a balanced accuracy is shown beside the plain one."""


@dataclass(frozen=True)
class Run:
    """A run as the report sees it."""

    folder: Path  # where it lies
    tables: Tables
    static: pd.DataFrame  # its static jobs
    dynamical: pd.DataFrame  # its dynamical jobs

    @property
    def name(self) -> str:
        """Name of the run: that of its folder, so it may hold anything."""
        return self.tables.name

    @property
    def has_both(self) -> bool:
        """Whether static and dynamical jobs can be compared."""
        return len(self.static) > 0 and len(self.dynamical) > 0

    @cached_property
    def cells(self) -> int:
        """Most tilted cells of any one group, of those that differ by the tilt alone.

        A control that is blind to class does not count: it stands beside a cell of its own.
        """
        rows = gather(self.tables.jobs).rows
        tilted = ~rows["static"]
        if "loss.groups" in rows:
            tilted &= rows["loss.groups"].ne(BLIND)
        return int(tilted.groupby(rows["group"]).sum().max())

    @property
    def judged(self) -> bool:
        """Whether there is one tilted cell beside each static one, so nothing to choose."""
        return self.has_both and self.cells == 1

    @property
    def probed(self) -> bool:
        """Whether curvature was measured along any of its trainings."""
        return len(self.tables.probes) > 0

    @property
    def metrics(self) -> list[str]:
        """Final accuracies that the run has, training first; the balanced ones if they differ."""
        jobs = self.tables.jobs
        plain = [name for name in METRICS if jobs[name].notna().any()]
        pairs = [(name, name.replace("accuracy", "balanced_accuracy")) for name in plain]
        apart = [two for one, two in pairs if (jobs[one] - jobs[two]).abs().gt(UNEVEN).any()]
        return plain + apart

    @property
    def about(self) -> str:
        """One sentence on what it is made of."""
        jobs = self.tables.jobs
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

    def invocations(self) -> list[dict[str, Any]]:
        """Every time it was started, as its provenance has it; empty if that is unreadable."""
        return provenance.invocations(self.folder)

    def recall_figure(self) -> Figure | None:
        """Return the figure of `tiltcli plot recall`; None if no recalls were kept."""
        if self.tables.recall.empty:
            return None
        from tiltcli.plots.curves import recalls

        return recalls(self.tables.jobs, self.tables.recall, title=self.name)

    def comparison(self, best: str | None = None) -> Comparison:
        """Return static (a) against dynamical (b); with `best`, each width's best cell by it."""
        return compare(
            self.static,
            self.dynamical,
            name_a="static",
            name_b="dynamical",
            metrics=self.metrics or METRICS,
            best=best,
            baseline=self.tables.jobs,
        )


def load_run(run: str | Path, results: Path) -> Run:
    """Return a run and what it holds."""
    folder = find_run(run, results)
    tables = read(folder, metrics=None if _stepwise(folder) else CURVES)
    if tables.jobs.empty:
        raise UserError(f"{tables.name}: no job has finished yet: there is nothing to report")
    dynamical = tables.jobs[tables.jobs["loss.kind"] == "dynamical"]
    static = tables.jobs[tables.jobs["loss.kind"] == "static"]
    return Run(folder, tables, static, dynamical)


def _stepwise(folder: Path) -> bool:
    """Return whether a run has a training that a report follows step by step.

    That takes all that was logged of it; of others their curves are enough.
    """
    jobs = read_jobs(folder, ["loss.kind", "train.log_every", "train.batch_size"])
    return jobs["loss.kind"].nunique() < 2 or len(dense(jobs)) > 0 or len(read_probes(folder)) > 0


def dense(jobs: pd.DataFrame) -> pd.DataFrame:
    """Jobs whose loss was kept at every single step."""
    return jobs[jobs["train.log_every"].eq(1) & jobs["train.batch_size"].isna()]


def where_chosen(run: Run, runs: Sequence[Run]) -> tuple[bool | None, str]:
    """Whether a run's cells are those that another run's validation chose, on other seeds."""
    columns = [str(name) for name in run.tables.jobs.columns if "." in str(name)]
    settings = [name for name in columns if name not in (*REPLICATES, *PATHS)]
    data = [name for name in settings if name.startswith("data.")]
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
