"""Arrays of the user's own, from an .npz file or a function, checked before anything is trained.

Of a file nothing is unpickled, nothing allocated that it does not hold.
"""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from tiltcli.data.arrays import Inputs, Label, plain_labels
from tiltcli.data.limits import check_bytes
from tiltcli.errors import UserError, listing

PARTS = {"train": ("X", "y"), "val": ("X_val", "y_val"), "test": ("X_test", "y_test")}
NAMES = tuple(name for pair in PARTS.values() for name in pair)


def load_arrays(path: Path, wanted: Collection[str] | None = None) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of an .npz file by name; those not wanted (None: all are) as empty ones."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            arrays = {name.removesuffix(".npy"): np.empty(0) for name in names}
            chosen = [n for n in names if wanted is None or n.removesuffix(".npy") in wanted]
            sizes = [archive.getinfo(name).file_size for name in chosen]
            check_bytes(path, sum(sizes), "what it holds")
            for name, size in zip(chosen, sizes, strict=True):
                with archive.open(name) as member:
                    arrays[name.removesuffix(".npy")] = _array(member, size)
            return arrays
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds for damaged files
        hint = " (arrays of Python objects are never read)" if "pickle" in str(error) else ""
        what = str(error)[:200] or type(error).__name__
        raise UserError(f"{path}: not a readable .npz file{hint}: {what}") from None


def _array(member: IO[bytes], size: int) -> npt.NDArray[Any]:
    """Return the array of one .npy file of a known size; `ValueError` if its header claims more."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers written by Python 2
        version = np.lib.format.read_magic(member)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(member)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(member)
        else:
            raise ValueError(f"format {version} of an array; known: 1.0 and 2.0")
    if dtype.hasobject:
        raise ValueError("an array that only pickle could read")
    if dtype.itemsize == 0 or any(length < 0 for length in shape):
        raise ValueError(f"an array of dtype {dtype} and shape {shape}")
    count = math.prod(shape)
    if count * dtype.itemsize != size - member.tell():
        raise ValueError(
            f"an array of {shape} {dtype}, {count * dtype.itemsize} bytes, in "
            f"{size - member.tell()} bytes"
        )
    flat = np.frombuffer(bytearray(member.read()), dtype=dtype, count=count)
    return flat.reshape(shape[::-1]).transpose() if fortran else flat.reshape(shape)


def array_parts(
    source: str, arrays: Mapping[str, npt.NDArray[Any]]
) -> tuple[dict[str, Inputs], dict[str, list[Label]]]:
    """Sort X and y, X_val, … of a user into inputs, each in its own dtype, and labels of parts."""
    faults = [
        f"{source}: has no array {name}; it has {listing(list(arrays)) or 'none'}"
        for name in ("X", "y")
        if name not in arrays
    ]
    pairs = {}
    for part, (X_name, y_name) in PARTS.items():
        if X_name in arrays and y_name in arrays:
            pairs[part] = arrays[X_name], arrays[y_name]
        elif part != "train" and (X_name in arrays or y_name in arrays):
            faults.append(f"{source}: has only one of {X_name} and {y_name}")
    for part, (X, y) in pairs.items():
        faults += [f"{source}: {fault}" for fault in _array_faults(*PARTS[part], X, y)]
    shapes = {PARTS[part][0]: X.shape[1:] for part, (X, _) in pairs.items()}
    if len(set(shapes.values())) > 1:
        shown = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        faults.append(f"{source}: parts differ in the shape of a sample: {shown}")
    if faults:
        raise UserError(*faults)
    return (
        {part: X for part, (X, _) in pairs.items()},
        {part: plain_labels(y) for part, (_, y) in pairs.items()},
    )


def _array_faults(X_name: str, y_name: str, X: Inputs, y: npt.NDArray[Any]) -> list[str]:
    faults = []
    if X.ndim not in (2, 4) or 0 in X.shape:
        faults.append(
            f"{X_name} has shape {X.shape}; allowed: (samples, inputs), or pictures "
            "as (samples, channels, height, width)"
        )
    elif X.dtype.kind not in "fiub":
        faults.append(f"{X_name} holds {X.dtype}; allowed: numbers")
    elif X.dtype.kind == "f" and (place := _first_bad(X)) is not None:
        row, *within = place
        where = f"column {within[0] + 1}" if X.ndim == 2 else f"at {tuple(within)}"
        faults.append(
            f"{X_name} holds {X[place]} (first in row {row + 1}, {where}); allowed: finite numbers"
        )
    if y.ndim != 1:
        faults.append(f"{y_name} has shape {y.shape}; allowed: (samples,)")
    elif X.ndim and len(X) != len(y):
        faults.append(f"{X_name} has {len(X)} samples and {y_name} {len(y)}")
    elif y.dtype.kind == "f":
        bad = ~np.isfinite(y) | (y != np.round(y))
        if bad.any():
            row = int(bad.argmax())
            faults.append(
                f"{y_name} holds {y[row]} (first in row {row + 1}); allowed: class labels, whole "
                "numbers or texts"
            )
    elif y.dtype.kind not in "iubUS":
        faults.append(f"{y_name} holds {y.dtype}; allowed: class labels")
    return faults


def _first_bad(X: Inputs) -> tuple[int, ...] | None:
    """Place of the first value that is not finite, found in pieces to save memory."""
    rows = max(1, (1 << 24) // max(1, math.prod(X.shape[1:])))
    for begin in range(0, len(X), rows):
        bad = ~np.isfinite(X[begin : begin + rows])
        if bad.any():
            row, *within = np.unravel_index(int(bad.argmax()), bad.shape)
            return (begin + int(row), *map(int, within))
    return None
