"""A job on its way into a run: its metrics while it trains, and what is left when it ends."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tiltcli.errors import METRIC_COLUMNS
from tiltcli.grid import Job
from tiltcli.grid.settings import FACTORIES, SETTINGS, given_arguments, outputs
from tiltcli.store.files import writing
from tiltcli.store.parquet import METRICS, PROBES, RECALL, open_writer, read_part, table_of_rows

if TYPE_CHECKING:
    from tiltcli.engines.base import Array, Block, Ending, Whole

SPILL_ROWS = 1 << 18
"""Rows of metrics and recalls a running job keeps in memory; beyond, they go to its own files."""

_OTHERWISE = [key for key, one in SETTINGS.items() if one.depth or one.null is not None]
"""Settings whose columns hold something else than the settings do."""

_OUTPUTS = frozenset(outputs())

_VALUES = [column.name for column in METRIC_COLUMNS if column.name != "job"]


class MetricsSpool:
    """Metrics of one running job, and recalls: in memory while few, in temporary files when many.

    So memory does not grow with the number of epochs. `Unwritable` is raised if the disk is full.
    Temporary files lie in the run's metrics folder, under the name of the writer that will take
    the job, so that only it tidies up.
    """

    def __init__(self, job: str, folder: Path, writer: str = "") -> None:
        self.job = job
        self.rows = 0
        self.last: dict[str, float] = {}
        self._folder, self._prefix = folder, f"{writer}." if writer else ""
        self.recalls: list[pa.Table] = []
        self._blocks: list[Block] = []
        self._held = 0
        self._writers: dict[Path, pq.ParquetWriter] = {}

    @property
    def _path(self) -> Path:
        return self._folder / f".{self._prefix}{self.job}.{os.getpid()}.tmp"

    def add(self, block: Block, labels: Sequence[str] = ()) -> None:
        """Take a block of rows; `labels` are the classes' names, for its recalls."""
        count = len(block.epoch)
        if not count:
            return
        self.last = {name: float(getattr(block, name)[-1]) for name in _VALUES}
        self._blocks.append(replace(block, recall=None))
        self.rows += count
        self._held += count
        if block.recall is not None:
            self._take(block.epoch, ("train", "val"), block.recall, labels)
        if self._held >= SPILL_ROWS:
            self._spill()

    def end(self, ending: Ending, labels: Sequence[str]) -> None:
        """Take the recalls of the test part, if there are."""
        if ending.test_recall is not None:
            epochs = np.array([ending.epoch])
            self._take(epochs, ("test",), ending.test_recall[None, None], labels)

    def _take(
        self, epochs: Whole, parts: Sequence[str], recall: Array, labels: Sequence[str]
    ) -> None:
        self.recalls.append(recall_table(self.job, epochs, parts, recall, labels))
        self._held += len(self.recalls[-1])

    def _spill(self) -> None:
        self._write(self._path, metrics_table([(self.job, self._blocks)]))
        if self.recalls:
            self._write(recall_file(self._path), pa.concat_tables(self.recalls))
        self.recalls, self._blocks, self._held = [], [], 0

    def _write(self, path: Path, table: pa.Table) -> None:
        with writing(path):
            if path not in self._writers:
                self._writers[path] = open_writer(path, table.schema)
            self._writers[path].write_table(table)

    def finish(self) -> list[Block] | Path:
        """Return the blocks, or the finished file where there were too many; likewise `recalls`."""
        if not self._writers:
            return self._blocks
        if self._blocks or self.recalls:
            self._spill()
        for path, writer in self._writers.items():
            with writing(path):
                writer.close()
        return self._path

    def discard(self) -> None:
        """Drop everything: the job will be run again."""
        for path, writer in self._writers.items():
            with contextlib.suppress(OSError):  # a full disk: the file goes anyway
                writer.close()
            path.unlink(missing_ok=True)
        self._blocks, self.recalls = [], []


@dataclass(frozen=True)
class Finished:
    """A job that ended; `unsaved` says why its checkpoint could not be saved, if so.

    Where the metrics are a file, so are the recalls.
    """

    row: Mapping[str, Any]
    metrics: list[Block] | Path
    rows: int
    probes: Sequence[Mapping[str, Any]] = ()
    unsaved: str = ""
    recalls: Sequence[pa.Table] = ()

    def file(self, table: str) -> Path | None:
        """File that has its rows of metrics or recalls, if one has."""
        if not isinstance(self.metrics, Path):
            return None
        recall = recall_file(self.metrics)
        return self.metrics if table == "metrics" else recall if recall.exists() else None

    def discard(self) -> None:
        """Remove its files."""
        for table in ("metrics", "recall"):
            if path := self.file(table):
                path.unlink(missing_ok=True)


def recall_file(metrics: Path) -> Path:
    """File of recalls that goes with a running job's file of metrics."""
    return metrics.with_suffix(".recall.tmp")


def table_of(table: str, some: Sequence[Finished]) -> pa.Table:
    """Rows of jobs in the table metrics, probes or recall."""
    if table == "probes":
        return table_of_rows([row for one in some for row in one.probes], PROBES)
    schema = METRICS if table == "metrics" else RECALL
    files = [read_part(path, schema) for one in some if (path := one.file(table))]
    if table == "metrics":
        held = [(one.row["job"], one.metrics) for one in some if isinstance(one.metrics, list)]
        files.append(metrics_table(held))
    files += [rows for one in some for rows in one.recalls if table == "recall"]
    return pa.concat_tables([schema.empty_table(), *files]).combine_chunks()


def recall_table(
    job: str, epochs: Whole, parts: Sequence[str], recall: Array, labels: Sequence[str]
) -> pa.Table:
    """Return recalls of a job as a table, by epoch, part and class.

    `recall` has shape (epochs, parts, classes); what is NaN has no row.
    """
    rows, part, which = (~np.isnan(recall)).nonzero()
    names: list[tuple[Whole, Sequence[str]]] = [(0 * rows, [job]), (part, parts), (which, labels)]
    texts = [pa.DictionaryArray.from_arrays(at, pa.array(n)).cast(pa.string()) for at, n in names]
    columns = [texts[0], pa.array(epochs[rows]), *texts[1:], pa.array(recall[rows, part, which])]
    return pa.Table.from_arrays(columns, schema=RECALL)


def metrics_table(jobs: Sequence[tuple[str, Sequence[Block]]]) -> pa.Table:
    """Metrics of several jobs as one table; NaN in the validation columns becomes null."""
    blocks = [block for _, some in jobs for block in some]
    names = [name for name, some in jobs for block in some for _ in range(len(block.epoch))]
    columns: list[Any] = [pa.array(names, pa.string())]
    for field in METRICS:
        if field.name == "job":
            continue
        values = np.concatenate([getattr(block, field.name) for block in blocks] or [np.empty(0)])
        columns.append(pa.array(values, field.type, from_pandas=field.name.startswith("val_")))
    return pa.Table.from_arrays(columns, schema=METRICS)


def setting_columns(job: Job) -> dict[str, Any]:
    """Settings of a job as its columns."""
    row = {key: value for key, value in job.settings.items() if key not in _OUTPUTS}
    for name in _OTHERWISE:
        if name in row:
            row[name] = SETTINGS[name].to_column(row[name])
    for table in FACTORIES.values():
        if table in row:
            own = given_arguments(row, table)
            row[table] = json.dumps(own)
            for name, value in own.items():
                row[f"{table}.{name}"] = SETTINGS[f"{table}.{name}"].to_column(value)
    return row
