"""Reading one file of a run: what the system refuses for the moment is told from damage."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from tiltcli.errors import UserError, out_of_memory
from tiltcli.store.jobs_files import read_jobs_file

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
    """Do what reads a file; once more, a few times, if the system refuses.

    Too many open files, a stale handle, a disk that answers with an error say nothing about what
    the file holds: it may be as good as ever.

    Args:
        path: of the file.
        act: reads it.

    Raises:
        FileNotFoundError: if it is not there.
        Damaged: if it is there and cannot be made out.
        UserError: if the system refuses to the last.

    Returns:
        what `act` does.

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
    """Return whether a file has the columns of this version; see `patiently` for what it raises."""
    found: pa.Schema = patiently(path, lambda: pq.read_schema(path))
    return bool(found.equals(schema))


def read_part(path: Path, wanted: pa.Schema | Sequence[str]) -> pa.Table:
    """Return columns of a file: those of a schema (null where it lacks them), or those of names."""

    def read() -> pa.Table:
        if path.parent.name == "jobs" and isinstance(wanted, pa.Schema):
            return read_jobs_file(path, wanted)
        with pq.ParquetFile(path) as file:
            names = wanted.names if isinstance(wanted, pa.Schema) else list(wanted)
            there = [name for name in names if name in file.schema_arrow.names]
            table = file.read(there)
        if not isinstance(wanted, pa.Schema):
            return table.select(names)
        columns = [
            table[field.name].cast(field.type)
            if field.name in there
            else pa.nulls(len(table), field.type)
            for field in wanted
        ]
        return pa.Table.from_arrays(columns, schema=wanted)

    return patiently(path, read)
