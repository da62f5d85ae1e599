"""Branches of a run's trainings: `branches/*.parquet`, each file whole, none ever replaced.

A file holds some learning rates of one branch; which branch, stands in its schema's metadata.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tiltcli.errors import UserError, columns_of
from tiltcli.store.files import write_whole
from tiltcli.store.parquet import schema_of, table_of_rows

BRANCHES = schema_of(
    columns_of("""
job       string  –      id of the job whose training is continued
epoch     int64   epoch  epoch whose weights it is continued from
lr        float64 1      learning rate η of every update from there on
step      int64   step   optimiser updates made, those before the branch included
loss      float64 nat    F; null at the step at which it diverged
sharpness float64 nat    λ_max of the Hessian of F, at the branch's first step and its last two;
    else null
lyapunov  float64 1/step largest Lyapunov exponent of the training map over the last steps kept; in
    the last row of each learning rate, null where it diverged and for Adam
frozen    bool    –      whether the class weights stay as they were at that epoch
""")
)


@dataclass(frozen=True)
class Branch:
    """What makes a branch; learning rates can be added to it."""

    job: str  # id of the job
    epoch: int  # whose weights it starts from
    frozen: bool  # whether Γ stays as it is there
    steps: int  # updates made at each learning rate
    keep: int  # last steps kept


def add_rows(folder: Path, branch: Branch, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write all rows of some learning rates, without the branch's own columns, to a new file."""
    own = {"job": branch.job, "epoch": branch.epoch, "frozen": branch.frozen}
    whole = [own | dict(row) for row in rows]
    schema = BRANCHES.with_metadata(
        {**BRANCHES.metadata, b"branch": json.dumps(asdict(branch)).encode()}
    )
    path = folder / "branches" / f"{branch.job}-{branch.epoch}-{os.urandom(4).hex()}.parquet"
    path.parent.mkdir(exist_ok=True)
    table = table_of_rows(whole, schema)
    write_whole(path, lambda to: pq.write_table(table, to, compression="zstd"))


def read_branches(folder: Path) -> dict[Branch, pd.DataFrame]:
    """Return the rows of each branch of a run, by learning rate and step."""
    found: dict[Branch, list[pd.DataFrame]] = {}
    for branch, table in _files(folder, None):
        found.setdefault(branch, []).append(table.to_pandas())
    return {
        branch: pd.concat(frames).sort_values(["lr", "step"], kind="stable", ignore_index=True)
        for branch, frames in found.items()
    }


def rates_done(folder: Path, branch: Branch) -> set[float]:
    """Learning rates that a branch has; propagates `UserError` if a file cannot be read."""
    return {
        rate
        for own, table in _files(folder, ["lr"])
        if own == branch
        for rate in table["lr"].unique().to_pylist()
    }


def _files(folder: Path, columns: list[str] | None) -> Iterator[tuple[Branch, pa.Table]]:
    for path in sorted((folder / "branches").glob("*.parquet")):
        try:
            table = pq.read_table(path, columns=columns)
            branch = Branch(**json.loads(table.schema.metadata[b"branch"]))
        except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: cannot be read ({error}); remove it") from error
        yield branch, table
