"""A job on its way into a run: its metrics while it trains, and what is left when it ends."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tiltcli.engines.base import Block
from tiltcli.errors import METRIC_COLUMNS
from tiltcli.grid import Job
from tiltcli.grid.settings import FACTORIES, SETTINGS, given_arguments, outputs
from tiltcli.store import growing
from tiltcli.store.columns import METRICS
from tiltcli.store.parts import unwritable

SPILL_ROWS = 1 << 18
"""Rows of metrics a running job keeps in memory; beyond, they go to a file of its own."""

_OTHERWISE = [key for key, one in SETTINGS.items() if one.depth or one.null is not None]
"""Settings whose columns hold something else than the settings do."""

_OUTPUTS = frozenset(outputs())

_VALUES = [column.name for column in METRIC_COLUMNS if column.name != "job"]


class MetricsSpool:
    """Metrics of one running job: in memory while few, in a temporary file when many.

    So memory does not grow with the number of epochs.

    Args:
        job: its id.
        folder: where a temporary file goes: the run's metrics folder.
        writer: name of the part writer that will take the job, so that only it tidies up.

    """

    def __init__(self, job: str, folder: Path, writer: str = "") -> None:
        self.job = job
        self.rows = 0
        self.last: dict[str, float] = {}
        self._folder, self._prefix = folder, f"{writer}." if writer else ""
        self._blocks: list[Block] = []
        self._held = 0
        self._writer: pq.ParquetWriter | None = None

    @property
    def _path(self) -> Path:
        return self._folder / f".{self._prefix}{self.job}.{os.getpid()}.tmp"

    def add(self, block: Block) -> None:
        """Take a block of rows."""
        count = len(block.epoch)
        if not count:
            return
        self.last = {name: float(getattr(block, name)[-1]) for name in _VALUES}
        self._blocks.append(block)
        self.rows += count
        self._held += count
        if self._held >= SPILL_ROWS:
            self._spill()

    def _spill(self) -> None:
        try:
            if self._writer is None:
                self._writer = growing.writer(self._path, METRICS)
            self._writer.write_table(metrics_table([(self.job, self._blocks)]))
        except OSError as error:
            raise unwritable(self._path, error) from error
        self._blocks, self._held = [], 0

    def finish(self) -> list[Block] | Path:
        """Return the blocks, or the finished file where there were too many."""
        if self._writer is None:
            return self._blocks
        if self._blocks:
            self._spill()
        try:
            self._writer.close()
        except OSError as error:
            raise unwritable(self._path, error) from error
        return self._path

    def discard(self) -> None:
        """Drop everything: the job will be run again."""
        if self._writer is not None:
            with contextlib.suppress(OSError):  # a full disk: the file goes anyway
                self._writer.close()
            self._path.unlink(missing_ok=True)
        self._blocks = []


@dataclass(frozen=True)
class Finished:
    """A job that ended; `unsaved` says why its checkpoint could not be saved, if so."""

    row: Mapping[str, Any]
    metrics: list[Block] | Path
    rows: int
    probes: Sequence[Mapping[str, Any]] = ()
    unsaved: str = ""


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
