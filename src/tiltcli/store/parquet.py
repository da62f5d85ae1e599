"""Parquet files of a run: their columns, reading one, and growing one.

Every column carries its unit and meaning in the file. Whichever version wrote a file, it is read in
the columns of today; what the system refuses for the moment is told from damage.

Every change puts a whole new file in the place of the old one. It begins with all of the old one;
further row groups come behind, and last a new footer that says which row groups count: all, or only
the further ones. So a reader that looks first at a file's size or its footer, and opens it again
for the rows, finds what it expects, whatever has come behind it since (Polars is such a reader).
"""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tiltcli.errors import (
    JOB_COLUMNS,
    METRIC_COLUMNS,
    PROBE_COLUMNS,
    RECALL_COLUMNS,
    RESULT_COLUMNS,
    Column,
    UserError,
    out_of_memory,
)
from tiltcli.grid.setting_types import Setting
from tiltcli.grid.settings import FACTORIES, PATHS, SETTINGS, later_settings
from tiltcli.store.files import write_whole

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


Found = TypeVar("Found")

WAITS = (0.1, 0.3, 1.0)
"""Seconds between the tries at a file that the system refuses to read."""


class Damaged(UserError):
    """A file was read, and is not what was once written; or it is not there any more."""

    def __init__(self, path: Path, reason: object) -> None:
        self.reason = str(reason)[:120]
        super().__init__(
            f"{path}: cannot be read ({self.reason}); "
            "run the sweep again: it sets the file aside and does its jobs anew"
        )


def patiently(path: Path, act: Callable[[], Found]) -> Found:
    """Return what `act` reads from a file; a few times again, if the system refuses.

    Too many open files, a stale handle, a disk that answers with an error say nothing about what
    the file holds: it may be as good as ever.

    Raises:
        FileNotFoundError: if it is not there.
        Damaged: if it is there and cannot be made out.
        UserError: if the system refuses to the last.

    """  # noqa: DOC501 - what is passed on
    for wait in (*WAITS, None):
        try:
            return act()
        except (FileNotFoundError, MemoryError):
            raise
        except OSError as error:
            if error.errno is None:  # Arrow's, of the content
                raise Damaged(path, error) from None
            if wait is None:
                raise UserError(
                    f"{path}: cannot be read ({error.strerror or error}); it was left as it is: "
                    "mend that, and run the same command again"
                ) from None
            time.sleep(wait)
        except (pa.ArrowException, KeyError, ValueError) as error:
            if out_of_memory(error):
                raise UserError(
                    f"{path}: cannot be read: not enough memory; it was left as it is"
                ) from None
            raise Damaged(path, error) from None
    raise AssertionError


def fits(path: Path, schema: pa.Schema) -> bool:
    """Whether a file has the columns of this version; see `patiently` for what it raises."""
    found: pa.Schema = patiently(path, lambda: pq.read_schema(path))
    return bool(found.equals(schema))


def read_part(path: Path, wanted: pa.Schema | Sequence[str]) -> pa.Table:
    """Return columns of a file: those of a schema (null where it lacks them), or those of names."""

    def read() -> pa.Table:
        with pq.ParquetFile(path) as file:
            if isinstance(wanted, pa.Schema):
                return _in_columns(wanted, file)
            return file.read(list(wanted)).select(list(wanted))

    return patiently(path, read)


def _in_columns(schema: pa.Schema, file: pq.ParquetFile) -> pa.Table:
    later = [one for one in later_settings() if one.key in schema.names]
    # One of them may apply where another, before it, has its default.
    asked = {*schema.names, *(key for one in later for key in one.applies.keys)}
    later = [one for one in later_settings() if one.key in asked]
    asked |= {key for one in later for key in one.applies.keys}
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


COPY_BYTES = 8 << 20
SMALL_BYTES = 1 << 20


def extend(path: Path, table: pa.Table) -> None:
    """Add rows to a file as one more row group, or begin the file with them."""
    before = patiently(path, lambda: pq.read_metadata(path)) if path.exists() else None
    write_whole(path, lambda to: _write(path, to, table, before))


def replace(path: Path, table: pa.Table) -> None:
    """Let a file hold these rows and no others; see `extend`."""
    write_whole(path, lambda to: _write(path, to, table, None))


def shrink(path: Path) -> None:
    """Leave out of a file what does not count any more, if that is most of it."""
    footer = patiently(path, lambda: pq.read_metadata(path))
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    counting = sum(
        group.column(i).total_compressed_size for group in groups for i in range(group.num_columns)
    )
    if path.stat().st_size >= max(2 * counting, SMALL_BYTES):
        whole = read_part(path, footer.schema.to_arrow_schema()).combine_chunks()
        write_whole(path, lambda to: _write(None, to, whole, None))


def open_writer(to: Any, schema: pa.Schema) -> pq.ParquetWriter:
    """Open a file of one of the tables, to be written to."""
    repeating = METRICS_REPEATING if schema.names == METRICS.names else True
    return pq.ParquetWriter(to, schema, compression="zstd", use_dictionary=repeating)


def _write(old: Path | None, to: Path, table: pa.Table, before: pq.FileMetaData | None) -> None:
    with pa.OSFile(str(to), "wb") as sink, open_writer(sink, table.schema) as file:
        if old is not None and old.exists():
            # The writer has begun with 4 bytes, the same in all files; it asks the sink where it
            # stands, so that what comes behind the old bytes knows its place.
            with old.open("rb") as source:
                source.seek(4)
                shutil.copyfileobj(source, sink, COPY_BYTES)
        file.write_table(table)
    if before is None:
        return
    before.append_row_groups(pq.read_metadata(to))
    footer = io.BytesIO()
    before.write_metadata_file(footer)
    with to.open("r+b") as whole:
        end = whole.seek(-8, io.SEEK_END)
        whole.seek(end - int.from_bytes(whole.read(4), "little"))
        whole.truncate()
        whole.write(footer.getvalue()[4:])
