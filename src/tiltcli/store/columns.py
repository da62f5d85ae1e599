"""Arrow schemas of the tables; every column carries its unit and meaning in the file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from tiltcli.errors import (
    JOB_COLUMNS,
    METRIC_COLUMNS,
    PROBE_COLUMNS,
    RECALL_COLUMNS,
    RESULT_COLUMNS,
    Column,
)
from tiltcli.grid.settings import FACTORIES, PATHS, SETTINGS

FORMAT = 2
"""Version of the tables. In format 1 train.batch_size was text, "full" among the numbers."""

_TYPES = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "list<float64>": pa.list_(pa.float64()),
}


def schema_of(columns: Iterable[Column]) -> pa.Schema:
    """Return the Arrow schema of a table; each column's unit and meaning stand in it."""
    fields = [
        pa.field(
            column.name,
            _TYPES[column.type],
            metadata={"unit": column.unit, "meaning": column.meaning},
        )
        for column in columns
    ]
    return pa.schema(fields, metadata={"tiltcli": json.dumps({"format": FORMAT})})


def table_of_rows(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows, each with the columns it has; what is missing or not a number becomes null."""
    arrays = [
        pa.array([row.get(field.name) for row in rows], field.type, from_pandas=True)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _setting_columns() -> Iterable[Column]:
    for setting in SETTINGS.values():
        if setting.output:
            continue
        null = "null where it does not apply" if setting.null is None else f"null: {setting.null}"
        meaning = f"setting: {setting.meaning}; {setting.allowed}; {null}"
        if setting.key in FACTORIES.values():
            meaning = "arguments of the factory, a JSON object; null where it does not apply"
        yield Column(setting.key, setting.arrow, setting.unit, meaning)
        if setting.key in PATHS:
            meaning = f"content of the file in {setting.key}: first 16 digits of its SHA-256"
            if setting.key in FACTORIES:
                meaning = f"function in {setting.key}, and 16 digits of the SHA-256 of its code"
            yield Column(PATHS[setting.key], "string", "", meaning)


JOBS = schema_of([*JOB_COLUMNS, *_setting_columns(), *RESULT_COLUMNS])
METRICS = schema_of(METRIC_COLUMNS)
PROBES = schema_of(PROBE_COLUMNS)
RECALL = schema_of(RECALL_COLUMNS)

METRICS_REPEATING = [name for name in METRICS.names if not name.endswith("_loss")]
"""Columns of the metrics that Parquet keeps a dictionary of values for.

Hardly two losses are equal: dictionaries of them make files a quarter larger and writing slower.
"""
