"""Reading one file of a run: what the system refuses for the moment is told from damage.

Whichever version wrote it, a file is read in the columns of today.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tiltcli.errors import UserError, out_of_memory
from tiltcli.grid.setting_types import Setting
from tiltcli.grid.settings import FACTORIES, SETTINGS, later_settings

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
