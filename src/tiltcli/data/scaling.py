"""From arrays as they are stored to the inputs of a network: shape, scale and dtype.

Sums are made in float64 whatever the dtype; big arrays go through in pieces, so that no second
copy of a data set in float64 is ever held.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tiltcli.data.arrays import Dataset, Inputs, Part
from tiltcli.errors import UserError

PIECE_BYTES = 64 << 20  # of float64, at a time
Scale = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


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
