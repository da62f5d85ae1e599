"""On which training points the tangent kernel is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Int64

ALL_UP_TO = 1000
"""Training sets up to this size are taken whole."""

SAMPLE = 500
"""Points of the sample drawn from a larger one."""


def kernel_count(samples: int, asked: int | None) -> int:
    """How many points the kernel is taken on: the first `asked`, or all where they are few."""
    if asked is not None:
        return min(asked, samples)
    return samples if samples <= ALL_UP_TO else SAMPLE


def kernel_points(
    labels: Int64[np.ndarray, " samples"], asked: int | None
) -> Int64[np.ndarray, " points"]:
    """Return the indices of the points, rising, of training points with these classes.

    `asked`: the first so many; None: all where they are few, else a sample drawn with seed 0 that
    has the classes in equal numbers as far as they go, the same for every job.
    """
    count = kernel_count(len(labels), asked)
    if asked is not None or count == len(labels):
        return np.arange(count, dtype=np.int64)
    generator = np.random.default_rng(0)
    order = generator.permutation(len(labels))
    # The n-th of its class, n first: every class gives one before any gives another.
    turn = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        own = order[labels[order] == label]
        turn[own] = np.arange(len(own))
    return np.sort(order[np.argsort(turn[order], kind="stable")[:count]])
