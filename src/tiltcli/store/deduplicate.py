"""Which row of a job counts, where several parts have one.

A job that ended well beats one that failed (it was run again); among equals the last in the order
of the parts counts. The same job gives the same numbers whoever trains it, so the choice among
equals changes nothing but the wall time shown.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tiltcli.errors import Outcome

Mask = npt.NDArray[np.bool_]


def deduplicate(jobs: Sequence[pa.Table]) -> list[Mask] | None:
    """Return masks of the rows that count, of jobs tables in their parts' order; None if all do."""
    if not jobs:
        return None
    keys = pa.concat_tables([table.select(["job", "outcome"]) for table in jobs]).to_pandas()
    if not keys["job"].duplicated().any():
        return None
    failed = keys["outcome"] == Outcome.FAILED
    ordered = pd.concat([keys[failed], keys[~failed]])
    kept = ordered.index[~ordered["job"].duplicated(keep="last")]
    mask = np.zeros(len(keys), dtype=bool)
    mask[kept] = True
    return np.split(mask, np.cumsum([len(table) for table in jobs])[:-1])


def rows_of(table: pa.Table, jobs: pa.ChunkedArray) -> pa.Table:
    """Rows of a table that belong to one of these jobs."""
    names = table["job"].unique()
    if pc.all(pc.is_in(names, value_set=jobs), min_count=0).as_py():
        return table
    return table.filter(pc.is_in(table["job"], value_set=jobs))
