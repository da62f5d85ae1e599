"""Probes of several jobs as one table, the latest of each job and epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import pyarrow as pa

from tiltcli.errors import QUANTITY_COLUMNS
from tiltcli.grid import ProbeSettings
from tiltcli.store.parquet import PROBES
from tiltcli.store.parts import parse

KEYS = ["job", "epoch"]
_GROUPS = {key: [column.name for column in some] for key, some in QUANTITY_COLUMNS.items()}
_REST = [field.name for field in PROBES if not any(field.name in g for g in _GROUPS.values())]


def merged_probes(tables: Sequence[pa.Table]) -> pa.Table:
    """Return tables, earliest first, joined to one row per job and epoch.

    Of a quantity's columns all come from the latest row that has any.
    """
    whole = pa.concat_tables(tables) if tables else PROBES.empty_table()
    keys = whole.select(KEYS).to_pandas()
    if not keys.duplicated().any():
        return whole
    frame = whole.to_pandas()
    joined = frame[_REST].drop_duplicates(KEYS, keep="last")
    for group in _GROUPS.values():
        known = frame[[*KEYS, *group]].dropna(how="all", subset=group)
        joined = joined.merge(known.drop_duplicates(KEYS, keep="last"), on=KEYS, how="left")
    return pa.Table.from_pandas(joined, schema=PROBES, preserve_index=False)


def in_order(names: Sequence[str]) -> list[str]:
    """Return parts with those of the client that writes alone last.

    Earlier versions put probes that were added later among them.
    """
    return sorted(names, key=lambda name: ((parse(name) or (name,))[0] == "", name))


def sorted_frame(table: pa.Table) -> pd.DataFrame:
    """Frame of a probes table, by job and epoch."""
    frame: pd.DataFrame = table.to_pandas()
    return frame.sort_values(KEYS, ignore_index=True, kind="stable")


def missing_epochs(
    probes: pd.DataFrame, ended: Mapping[str, int], settings: ProbeSettings
) -> dict[str, list[int]]:
    """Return the epochs, rising, that each job lacks; `ended` is the last that can be probed."""
    held = probes
    for quantity in settings.quantities:
        none = (held["epoch"] == 0) & (quantity == "lyapunov")  # of no updates there is none
        held = held[held[_GROUPS[quantity]].notna().any(axis=1) | none]
    if "ntk" in settings.quantities and settings.ntk_points is not None:
        held = held[held["ntk_points"] == settings.ntk_points]
    have = held.groupby("job")["epoch"].agg(set).to_dict()
    missing = {
        job: [epoch for epoch in settings.due(last) if epoch not in have.get(job, ())]
        for job, last in ended.items()
    }
    return {job: epochs for job, epochs in missing.items() if epochs}
