"""A grid that a program holds: NumPy's and pandas' objects as what a grid file could say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tiltcli.errors import Fault, UserError
from tiltcli.store.parts import write_whole

KEPT = "in-memory"
"""Folder, beside the runs, of data that came as objects."""

TABLES = ("data.path", "data.val_path", "data.test_path")
ARRAYS = ("data.path", "model.init_file")


@contextmanager
def document_of(spec: Mapping[str, Any], results: Path) -> Iterator[dict[str, Any]]:
    """Give the content of a grid file; data in it are kept as files, but not of a refused grid."""
    reader = _Reader(results / KEPT)
    try:
        document = reader.plain(spec, "")
        if reader.faults:
            raise UserError(*reader.faults)
        yield document
    except BaseException:
        for path in reader.written:
            path.unlink(missing_ok=True)
        raise


class _Reader:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.faults: list[Fault] = []
        self.written: list[Path] = []

    def plain(self, value: Any, key: str) -> Any:
        """Value as a grid file has it; faults are noted under its path."""
        name = key.rpartition("].")[2]
        if isinstance(value, pd.DataFrame):
            if name in TABLES:
                return self._kept(key, value)
            where = " or ".join(TABLES)
            return self._fault(key, f"got a DataFrame; one stands at {where}; here, a column of it")
        if isinstance(value, Mapping):
            if name in ARRAYS:
                return self._kept(key, value)
            return {
                str(own): self.plain(one, f"{key}.{own}" if key else str(own))
                for own, one in value.items()
            }
        if hasattr(value, "tolist"):  # of NumPy, pandas or torch
            value = value.tolist()
        if isinstance(value, list | tuple | range):
            return [self.plain(one, f"{key}[{i}]") for i, one in enumerate(value)]
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, bool | int | float | str):
            return value
        if value is None:
            return self._fault(key, "got None; leave it out for its default")
        kind = type(value).__name__
        return self._fault(key, f"got a {kind}; allowed: texts, numbers, lists, arrays, mappings")

    def _fault(self, key: str, message: str) -> None:
        self.faults.append(Fault(message, key=key))

    def _kept(self, key: str, data: pd.DataFrame | Mapping[str, Any]) -> str | None:
        """Path of the file that has the data; it goes by its content, so the same data are one."""
        digest = hashlib.sha256()
        try:
            if isinstance(data, pd.DataFrame):
                suffix = ".parquet"
                digest.update(repr([*map(str, data.columns), *map(str, data.dtypes)]).encode())
                digest.update(pd.util.hash_pandas_object(data, index=False).to_numpy().tobytes())
            else:
                suffix = ".npz"
                data = {str(name): np.asarray(one) for name, one in data.items()}
                for name, one in data.items():
                    if one.dtype.hasobject:
                        raise TypeError(f"{name} is an array of objects")
                    digest.update(repr((name, one.dtype.str, one.shape)).encode())
                    digest.update(one.tobytes())
            path = self.folder / f"{digest.hexdigest()[:16]}{suffix}"
            if not path.exists():
                self.folder.mkdir(parents=True, exist_ok=True)
                write_whole(path, lambda to: _write(to, data))
                self.written.append(path)
        except (TypeError, ValueError, OSError) as error:
            self._fault(key, f"cannot be kept as a file: {error}")
            return None
        return str(path)


def _write(to: Path, data: pd.DataFrame | Mapping[str, Any]) -> None:
    if isinstance(data, pd.DataFrame):
        data.to_parquet(to, index=False)
        return
    with to.open("wb") as file:
        np.savez(file, allow_pickle=False, **data)
