"""Points laid out for the kernel, and the arrays that it works on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tiltcli.engines.base import class_sizes
from tiltcli.engines.lanes import LANES
from tiltcli.engines.mlp import narrow

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Points:
    """Labelled points laid out for the kernel; several networks may share them."""

    # X with points in the lanes, X by rows (tiled layout), labels, groups, their number (0: the
    # classes), count, 1/count
    arrays: tuple[Any, ...]
    dims: Any  # inputs and classes as lengths of tuples where the layout is narrow, else ()
    dtype: np.dtype[Any]  # float32 or float64
    even: bool  # whether all classes have as many points

    @property
    def nbytes(self) -> int:
        """Memory that the arrays take, bytes."""
        return sum(array.nbytes for array in self.arrays if isinstance(array, np.ndarray))

    @staticmethod
    def prepare(
        X: npt.NDArray[Any],
        y: Labels,
        classes: int,
        dtype: npt.DTypeLike,
        groups: Labels | None = None,
        depth: int = 1,
    ) -> Points:
        """Return points X (n, inputs) as the kernel has them, for networks of a depth.

        `groups`, from 0, are those whose Γ weights each loss; None: the classes.
        """
        kind, (count, inputs) = np.dtype(dtype), X.shape
        is_narrow = depth == 1 and inputs + classes <= narrow.LARGEST
        arrays = room(count, inputs, kind, is_narrow)
        arrays[0][:, :count] = X.T
        if not is_narrow:
            arrays[1][:count, :inputs] = X
        arrays[2][:count] = y
        arrays[3][:count] = y if groups is None else groups
        dims = ((0,) * inputs, (0,) * classes) if is_narrow else ()
        grouped = 0 if groups is None else int(groups.max(initial=-1)) + 1
        even = class_sizes(y, classes)[1]
        return Points((*arrays, grouped, count, kind.type(1 / max(count, 1))), dims, kind, even)


def room(count: int, inputs: int, dtype: np.dtype[Any], is_narrow: bool) -> tuple[Any, ...]:
    """Arrays of so many points, labels and groups −1."""
    size = padded(count, dtype)
    labels, groups = (zeros((size,), dtype) for _ in range(2))
    labels[:] = groups[:] = -1
    if is_narrow:
        return zeros((inputs, size), dtype), zeros((0, 0), dtype), labels, groups
    lines = padded(inputs, dtype)  # of X too, which may be made by whole vectors of the rows
    X, rows = zeros((lines, size), dtype)[:inputs], zeros((size, lines), dtype)
    return X, rows, labels, groups


def lanes_of(dtype: np.dtype[Any]) -> int:
    """Lanes of a vector of this dtype."""
    # By its letter: NumPy puts a dtype's name together anew each time, which small jobs would feel.
    return LANES["float32" if dtype.char == "f" else "float64"]


def padded(count: int, dtype: np.dtype[Any]) -> int:
    """Round up to whole vectors."""
    size = lanes_of(dtype)
    return -(-count // size) * size


def zeros(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Zeros that begin at a whole vector: one that straddles two lines of the cache costs two."""
    kind = np.dtype(dtype)
    size = math.prod(shape)
    memory = np.zeros(size + 64 // kind.itemsize, kind)
    begin = -memory.ctypes.data % 64 // kind.itemsize
    return memory[begin : begin + size].reshape(shape)


def as_given(values: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Lay out what the kernel only reads; read-only always, lest it be compiled for both kinds."""
    with np.errstate(over="ignore"):  # an infinite weight makes the job diverge
        array = np.ascontiguousarray(values, dtype).view()
    array.flags.writeable = False
    return array
