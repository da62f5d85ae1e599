"""Long series in few points that look the same."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt


def evenly(count: int, most: int) -> npt.NDArray[np.int64]:
    """Return evenly spaced ones of so many indices, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def thin(values: npt.ArrayLike, limit: int = 1500) -> npt.NDArray[np.int64]:
    """Return indices that draw a long series as it looks: lowest and highest of each stretch."""
    series = np.asarray(values, dtype=float)
    n = len(series)
    if n <= 2 * limit:
        return np.arange(n)
    edges = np.linspace(0, n, limit + 1).astype(np.int64)
    filled = np.where(np.isnan(series), 0.0, series)
    chosen = {0, n - 1}
    for begin, end in pairwise(edges):
        part = filled[begin:end]
        chosen.update((begin + int(part.argmin()), begin + int(part.argmax())))
    return np.array(sorted(chosen), dtype=np.int64)
