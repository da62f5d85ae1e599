"""Splitting at random with every class in proportion."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tiltcli.data.arrays import Inputs, Labels, Part
from tiltcli.errors import FEW, Fault, UserError

Rows = npt.NDArray[np.intp]


def split(
    X: Inputs, y: Labels, shares: Sequence[float], seed: int, labels: Sequence[str], name: str
) -> tuple[Part, Part | None, Part | None]:
    """Return training, validation and test parts; see `split_rows`."""
    train, *others = split_rows(y, shares, seed, labels, name)
    val, test = (None if rows is None else Part(X[rows], y[rows]) for rows in others)
    return Part(X[train], y[train]), val, test


def split_rows(
    y: Labels, shares: Sequence[float], seed: int, labels: Sequence[str], name: str
) -> tuple[Rows, Rows | None, Rows | None]:
    """Return rows of training, validation, test in the samples' order; shares add up to 1."""
    faults = []
    parts = sum(share > 0 for share in shares)
    counts = np.bincount(y, minlength=len(labels))
    rare = np.flatnonzero((counts > 0) & (counts < parts))
    for label in map(int, rare[:FEW]):
        many = f"only {counts[label]} samples" if counts[label] > 1 else "only 1 sample"
        faults.append(
            f"{name}: class {labels[label]} has {many}; data.split = {list(shares)} needs at "
            f"least {parts}, one for each part"
        )
    if len(rare) > FEW:
        faults.append(f"{name}: … and {len(rare) - FEW:,} classes more have too few samples")
    if faults:
        raise UserError(*faults)
    rows: Rows = np.arange(len(y))
    try:
        rows, test = _cut(rows, y, shares[2], seed)
        rows, val = _cut(rows, y, shares[1] / (1.0 - shares[2]), seed)
    except ValueError as error:
        few = int(counts.argmin())
        raise UserError(
            f"{name}: cannot be split {list(shares)} with every class in each part: {error} "
            f"(class {labels[few]} has the fewest samples, {counts[few]})"
        ) from None
    val = None if val is None else np.sort(val)
    return np.sort(rows), val, None if test is None else np.sort(test)


def limited(part: Part, limit: int, seed: int, classes: int, name: str) -> Part:
    """Return so many samples of a part, every class in proportion, in the part's order."""
    most = len(part) - classes
    try:
        _, drawn = _cut(np.arange(len(part)), part.y, limit, seed)
        assert drawn is not None
    except ValueError:
        raise UserError(
            Fault(
                f"got {limit}; allowed: from {classes} to {most:,}, the training samples of {name} "
                "less one a class",
                key="data.limit",
            )
        ) from None
    rows = np.sort(drawn)
    return Part(part.X[rows], part.y[rows])


def _cut(rows: Rows, y: Labels, share: float, seed: int) -> tuple[Rows, Rows | None]:
    """Cut off a share of the rows, or so many of them."""
    if share <= 0:
        return rows, None
    from sklearn.model_selection import train_test_split

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, second = train_test_split(rows, test_size=share, random_state=seed, stratify=y[rows])
    return first, second
