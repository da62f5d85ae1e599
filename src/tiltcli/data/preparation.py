"""From arrays as they are stored to the inputs of a network: split, scaled, in its shape and dtype.

Sums are made in float64 whatever the dtype; big arrays go through in pieces, so that no second
copy of a data set in float64 is ever held.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tiltcli.data.arrays import Dataset, Inputs, Labels, Part
from tiltcli.errors import FEW, Fault, UserError

Rows = npt.NDArray[np.intp]

PIECE_BYTES = 64 << 20  # of float64, at a time
Scale = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


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


def prepared(data: Dataset, *, pictures: bool, standardize: bool, dtype: str, name: str) -> Dataset:
    """Return a data set, called `name` in messages, as a network takes it.

    For a network that takes no `pictures` they are flattened, channel after channel and row after
    row. Standardised is by the training part's mean and standard deviation: of each channel where
    the network takes pictures, else of each input. What never varies becomes zero.
    """
    pictures = pictures and len(data.sample_shape) == 3
    shape = data.sample_shape if pictures else (math.prod(data.sample_shape),)
    scale = _scale(data.train.X.reshape(-1, *shape), per_channel=pictures) if standardize else None
    made = {
        part_name: Part(_converted(part.X.reshape(-1, *shape), scale, dtype, name), part.y)
        for part_name, part in data.parts.items()
    }
    val, test = made.get("val"), made.get("test")
    return replace(data, train=made["train"], val=val, test=test, scale=scale)


def _pieces(X: Inputs) -> list[slice]:
    rows = max(1, PIECE_BYTES // max(1, 8 * math.prod(X.shape[1:])))
    return [slice(begin, begin + rows) for begin in range(0, len(X), rows)]


@np.errstate(over="ignore", invalid="ignore")
def _scale(X: Inputs, *, per_channel: bool) -> Scale:
    """Mean and standard deviation that broadcast over one sample."""
    axes = (0, 2, 3) if per_channel else (0,)
    count = math.prod(X.shape[axis] for axis in axes)

    def total(center: npt.NDArray[np.float64] | None) -> npt.NDArray[np.float64]:
        sums = []
        for piece in _pieces(X):
            values = X[piece].astype(np.float64)
            if center is not None:
                values -= center
                np.multiply(values, values, out=values)
            sums.append(values.sum(axis=axes, keepdims=True)[0])
        return np.asarray(sum(sums[1:], start=sums[0]))

    mean = total(None) / count
    spread = np.sqrt(total(mean) / count)
    spread[spread == 0] = 1.0
    return mean, spread


@np.errstate(over="ignore", invalid="ignore")
def _converted(X: Inputs, scale: Scale | None, dtype: str, name: str) -> Inputs:
    made = np.empty(X.shape, dtype=dtype)
    for piece in _pieces(X):
        values = X[piece].astype(np.float64)
        if scale is not None:
            values -= scale[0]
            values /= scale[1]
        made[piece] = values
        if not np.isfinite(made[piece]).all():
            largest = np.abs(X[piece].astype(np.float64)).max()
            raise UserError(
                f'{name}: holds {largest:g}, too large for train.dtype = "{dtype}"; '
                "rescale the data"
            )
    return made
