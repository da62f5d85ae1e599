"""Parquet files that grow, and that a reader never sees half of.

Every change puts a whole new file in the place of the old one. It begins with all of the old one;
further row groups come behind, and last a new footer that says which row groups count: all, or only
the further ones. So a reader that looks first at a file's size or its footer, and opens it again
for the rows, finds what it expects, whatever has come behind it since (Polars is such a reader).
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tiltcli.store import parts
from tiltcli.store.columns import METRICS, METRICS_REPEATING
from tiltcli.store.reading import patiently, read_part

COPY_BYTES = 8 << 20
SMALL_BYTES = 1 << 20


def extend(path: Path, table: pa.Table) -> None:
    """Add rows to a file as one more row group, or begin the file with them."""
    before = patiently(path, lambda: pq.read_metadata(path)) if path.exists() else None
    parts.write_whole(path, lambda to: _write(path, to, table, before))


def replace(path: Path, table: pa.Table) -> None:
    """Let a file hold these rows and no others; see `extend`."""
    parts.write_whole(path, lambda to: _write(path, to, table, None))


def shrink(path: Path) -> None:
    """Leave out of a file what does not count any more, if that is most of it."""
    footer = patiently(path, lambda: pq.read_metadata(path))
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    counting = sum(
        group.column(i).total_compressed_size for group in groups for i in range(group.num_columns)
    )
    if path.stat().st_size >= max(2 * counting, SMALL_BYTES):
        whole = read_part(path, footer.schema.to_arrow_schema()).combine_chunks()
        parts.write_whole(path, lambda to: _write(None, to, whole, None))


def writer(to: Any, schema: pa.Schema) -> pq.ParquetWriter:
    """Open a file of one of the tables, to be written to."""
    repeating = METRICS_REPEATING if schema.names == METRICS.names else True
    return pq.ParquetWriter(to, schema, compression="zstd", use_dictionary=repeating)


def _write(old: Path | None, to: Path, table: pa.Table, before: pq.FileMetaData | None) -> None:
    with pa.OSFile(str(to), "wb") as sink, writer(sink, table.schema) as file:
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
