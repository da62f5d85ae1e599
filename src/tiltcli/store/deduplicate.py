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

from tiltcli.errors import Outcome

Mask = npt.NDArray[np.bool_]


def deduplicate(jobs: Sequence[pa.Table]) -> list[Mask] | None:
    """Rows that count.

    Args:
        jobs: jobs tables of all live parts in their order; columns job and outcome are looked at.

    Returns:
        for each table a mask of its rows; None if every row counts.

    """
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


def rows_of_kept(table: pa.Table, jobs: pa.Table, mask: Mask) -> pa.Table:
    """Rows of a part's metrics whose job's row in the same part counts."""
    dropped = jobs["job"].filter(pa.array(~mask))
    if not len(dropped):
        return table
    chosen = set(dropped.to_pylist())
    kept = [job not in chosen for job in table["job"].to_pylist()]
    return table.filter(pa.array(kept, pa.bool_()))  # typed, for a table without rows
