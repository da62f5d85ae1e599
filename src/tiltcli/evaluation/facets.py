"""Facets: what a view with fewer dimensions than the run shows apart.

And what views call these, settings, their values and cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tiltcli.errors import UserError, listing
from tiltcli.evaluation.cells import ALWAYS, Cells, best
from tiltcli.grid.settings import SETTINGS

MOST_PANELS = 24
"""Panels of a figure beyond which nobody finds anything in it."""

_SYMBOLS = {"loss.amplitude": "A", "loss.period": "T"}


def short(key: str, *, symbols: bool = True) -> str:
    """Name of a setting where there is little room: `width`, `lr`, `A`; `a:` of a side stays."""
    if ":" in key:
        return key
    return _SYMBOLS.get(key, tail(key)) if symbols else tail(key)


def tail(key: str) -> str:
    """Last part of a setting's name: `amplitude`."""
    return key.rpartition(".")[2]


def value_text(key: str, value: Any) -> str:
    """Text of a setting's value; a dash where the setting does not apply."""
    key = key.rpartition(":")[2]
    if not isinstance(value, list | tuple) and pd.isna(value):
        return "full" if key == "train.batch_size" else "–"
    if isinstance(value, float):
        return str(int(value)) if key in SETTINGS and SETTINGS[key].whole else f"{value:g}"
    return str(value)[:8] if key.endswith("digest") else str(value)


def named(settings: Mapping[str, Any], *, symbols: bool = True) -> str:
    """Name of a facet: `width 10, A 3`; without symbols, `width 10, amplitude 3`."""
    return ", ".join(
        value_text(key, value)
        if key == "loss.kind"
        else f"{short(key, symbols=symbols)} {value_text(key, value)}"
        for key, value in settings.items()
    )


def class_name(labels: Sequence[str], number: int) -> str:
    """Name of a class for a legend: its own where it says more than its number."""
    name = labels[number] if number < len(labels) else ""
    return name[:24] if name and name != str(number) else f"class {number}"


def cell_name(cells: Cells, number: int) -> str:
    """Name of a cell within its group: `static`, or `A 3, T 10` and what else varies."""
    row = cells.rows.loc[number]
    if row["static"]:
        return "static"
    tilt = [key for key in ALWAYS if key.startswith("loss.")]
    keys = dict.fromkeys((*tilt, *telling(cells.rows[~cells.rows["static"]], cells.inside)))
    return named({key: row[key] for key in keys})


def group_keys(cells: Cells) -> tuple[str, ...]:
    """Settings that tell groups apart, for the first columns of a table: at least the width."""
    return telling(cells.rows, cells.outside) or ("model.width",)


def telling(rows: pd.DataFrame, keys: Sequence[str]) -> tuple[str, ...]:
    """Return those of some settings that are needed to tell rows apart.

    A setting that has one value wherever it applies (momentum beside adam) says nothing if another
    says where it applies.
    """
    kept = list(keys)
    count = len(rows[kept].drop_duplicates()) if kept else 1
    for key in reversed(keys):
        others = [other for other in kept if other != key]
        if rows[key].nunique() < 2 and others and len(rows[others].drop_duplicates()) == count:
            kept = others
    return tuple(kept)


@dataclass(frozen=True)
class Group:
    """A static cell and the best of those that differ from it by the tilt alone."""

    settings: Mapping[str, Any]  # what tells it from other groups; at least the width
    static: int | None  # number of the static cell; None without one
    best: int | None  # number of the best tilted cell; None if none has a value
    tilted: int  # number of tilted cells

    @property
    def shown(self) -> list[int]:
        """Numbers of the static and of the best cell, those there are."""
        return [number for number in (self.static, self.best) if number is not None]


def groups(cells: Cells, metric: str, *, ripe: bool = False) -> list[Group]:
    """Return the groups of cells, a row of a table each."""
    keys = group_keys(cells)
    found = []
    for _, rows in cells.rows.groupby("group", sort=True):
        settings = {key: rows[key].iloc[0] for key in keys}
        static, tilted = rows.index[rows["static"]], rows[~rows["static"]]
        count = tilted[f"{metric}:n"]
        able = tilted[2 * count >= count.max()] if ripe and len(tilted) else tilted
        first = int(static[0]) if len(static) else None
        found.append(Group(settings, first, best(able, metric), len(tilted)))
    return found


def check_panels(
    kind: str,
    rows: pd.DataFrame,
    keys: Sequence[str],
    count: int,
    most: int = MOST_PANELS,
    what: str = "panels",
) -> None:
    """Refuse a figure of more than can be looked at."""
    if count <= most:
        return
    values = {key: sorted(rows[key].dropna().unique().tolist()) for key in keys}
    axes = "; ".join(
        f"{key}: {listing([value_text(key, one) for one in found], 12)}"
        for key, found in values.items()
    )
    key = max(values, key=lambda one: len(values[one]))
    example = value_text(key, values[key][0])
    raise UserError(
        f"{kind} would have {count} {what}, at most {most} can be told apart; choose with "
        f"--where, as in --where '{key} == {example}' ({axes})"
    )
