"""A run's cells as the page shows them: a view at a time, each a phase diagram for every width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tiltcli.curvature.stability import stability_bound
from tiltcli.evaluation.cells import Cells, best, gather
from tiltcli.evaluation.facets import named, telling
from tiltcli.grid.settings import stepping

SCHEDULE = ("rest", "shape", "order", "groups", "timing", "half_life")
WIDTH, AXES = "model.width", ("loss.amplitude", "loss.period")


@dataclass(frozen=True)
class PageCells:
    """The cells of a run, and its views."""

    cells: Cells  # the table
    # its rows, and of each cell `outer` and `view` (numbers; a static cell's view is −1 where there
    # are tilted ones), the settings of `SCHEDULE`, and `bound` (of λ_max, NaN where theory has
    # none)
    rows: pd.DataFrame
    # what tells one phase diagram from another (settings beside width, amplitude and period that
    # vary), as text; one empty text where nothing does
    views: tuple[str, ...]
    # for each view, the number of its settings outside the loss: the static cells with that `outer`
    # belong to it
    outer_of: tuple[int, ...]

    def widths(self, metric: str) -> list[dict[str, Any]]:
        """Return what is known of each width of each view: its regime, its best cell, its sizes."""
        rows, found = self.rows, []
        for view, outer in enumerate(self.outer_of):
            own = rows[(rows["view"] == view) | (rows["static"] & (rows["outer"] == outer))]
            for width in sorted(own[WIDTH].unique().tolist()):
                here = own[own[WIDTH] == width]
                tilted = here[~here["static"]]
                found.append(
                    {
                        "view": view,
                        "width": int(width),
                        "regime": str(here["regime"].iloc[0]),
                        "best": best(tilted, metric),
                        "parameters": whole(here["parameters"].max()),
                        "samples": whole(here["train_samples"].max()),
                    }
                )
        return found


def page_cells(jobs: pd.DataFrame, metrics: Sequence[str]) -> PageCells:
    """Return the cells of some jobs, in views."""
    cells = gather(jobs, metrics)
    numbered = jobs.drop_duplicates("job").assign(cell=cells.of_job.to_numpy())
    first = numbered.drop_duplicates("cell").sort_values("cell")
    extra = {f"loss.{name}": first[f"loss.{name}"].to_numpy() for name in SCHEDULE}
    rows = cells.rows.assign(**extra, bound=_bounds(first))
    rows[WIDTH] = rows[WIDTH].fillna(0)  # of a user's network that takes none
    outside = [key for key in cells.outside if key != WIDTH]
    inside = [key for key in cells.inside if key not in AXES]
    rows["outer"] = _numbered(rows, outside)
    tilted = rows if rows["static"].all() else rows[~rows["static"]]
    rows["view"] = _numbered(tilted, [*outside, *inside]).reindex(rows.index, fill_value=-1)
    one_each = rows.loc[tilted.index].drop_duplicates("view").sort_values("view")
    names = telling(one_each, [*outside, *inside])
    views = tuple(named({key: one[key] for key in names}) for _, one in one_each.iterrows())
    return PageCells(cells, rows, views, tuple(one_each["outer"].astype(int)))


def _numbered(rows: pd.DataFrame, keys: list[str]) -> pd.Series[int]:
    if not keys:
        return pd.Series(0, index=rows.index)
    return rows.groupby(keys, dropna=False, sort=True).ngroup()


def _bounds(first: pd.DataFrame) -> list[float]:
    """Bound of λ_max of each cell, from a job of it."""
    names = list(stepping())
    known: dict[Any, float] = {}
    bounds = []
    for values in first[names].itertuples(index=False, name=None):
        sound = tuple(None if pd.isna(value) else value for value in values)
        if sound not in known:
            settings: dict[str, Any] = dict(zip(names, sound, strict=True))
            found = stability_bound(settings)
            fixed = not settings.get("train.lr_schedule")
            fixed = fixed and found is not None and found.column == "hessian_max"
            known[sound] = found.at(settings["train.lr"]) if found and fixed else np.nan
        bounds.append(known[sound])
    return bounds


def whole(value: Any) -> int | None:
    """Return a whole number, None where there is none."""
    return None if pd.isna(value) else int(value)
