"""Reading .npz files: nothing unpickled, nothing allocated that the archive does not hold."""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from tiltcli.data.limits import check_bytes
from tiltcli.errors import UserError


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
