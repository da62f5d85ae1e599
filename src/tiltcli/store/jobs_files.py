"""The jobs file of a part, in the columns of today, whichever version wrote it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tiltcli.grid.setting_types import Setting
from tiltcli.grid.settings import FACTORIES, SETTINGS, later_settings
from tiltcli.store.columns import JOBS


def read_jobs_file(path: Path, schema: pa.Schema = JOBS) -> pa.Table:
    """Return columns, some of `JOBS`, of a jobs file; OSError or ArrowException where it is bad."""
    later = [one for one in later_settings() if one.key in schema.names]
    # One of them may apply where another, before it, has its default.
    asked = {*schema.names, *(key for one in later for key in one.applies.keys)}
    later = [one for one in later_settings() if one.key in asked]
    asked |= {key for one in later for key in one.applies.keys}
    with pq.ParquetFile(path) as file:
        table = file.read([name for name in file.schema_arrow.names if name in asked])
    for one in later:
        if one.key not in table.column_names:
            table = table.append_column(one.key, _defaults(one, table))
    columns = [
        _column(field, table)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def with_arguments(jobs: pd.DataFrame) -> pd.DataFrame:
    """Give every argument of a factory a column of its own, `model.args.NAME`, for that of all."""
    for table in FACTORIES.values():
        if table not in jobs:
            continue
        place = list(jobs.columns).index(table)
        texts = jobs.pop(table)
        known = {text: json.loads(text) for text in texts.dropna().unique()}
        for name in reversed(dict.fromkeys(name for one in known.values() for name in one)):
            values = [
                SETTINGS[f"{table}.{name}"].to_column(known.get(t, {}).get(name)) for t in texts
            ]
            kept = pd.Series(values, jobs.index, dtype=object if None in values else None)
            jobs.insert(place, f"{table}.{name}", kept)
    return jobs


def _column(field: pa.Field, table: pa.Table) -> pa.ChunkedArray:
    column = table[field.name]
    setting = SETTINGS.get(field.name)
    if setting is not None and setting.null is not None and pa.types.is_string(column.type):
        # Of format 1: numbers as text, and a word among them for what is null now.
        column = pc.if_else(pc.equal(column, setting.null), None, column)
    return column.cast(field.type)


def _defaults(setting: Setting, table: pa.Table) -> pa.Array:
    """What jobs did before there was this setting: its default, where it applies."""
    keys = setting.applies.keys
    known: dict[tuple[object, ...], object] = {}
    values = []
    for row in zip(*(table[key].to_pylist() for key in keys), strict=True):
        if row not in known:
            applies = setting.applies(dict(zip(keys, row, strict=True)))
            known[row] = setting.to_column(setting.default) if applies else None
        values.append(known[row])
    if not keys:
        values = [setting.to_column(setting.default)] * len(table)
    return pa.array(values, pa.type_for_alias(setting.arrow))
