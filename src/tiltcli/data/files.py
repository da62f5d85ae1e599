"""Reading the user's own data: .npz, .parquet and .csv, checked before anything is trained."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tiltcli.records import UserError, listing, nearest

Arrays = dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]]
_PARTS = {"train": ("X", "y"), "val": ("X_val", "y_val"), "test": ("X_test", "y_test")}
READABLE = (".npz", ".parquet", ".csv")


def load_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read all arrays of an .npz file without unpickling.

    Raises:
        UserError: if it is not an .npz file, is damaged, or holds Python objects.

    """
    try:
        # Opened here, since NumPy leaves a damaged archive open.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not hasattr(archive, "files"):
                raise UserError(f"{path}: not an .npz archive")
            with archive:
                return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (
        ValueError,
        KeyError,
        EOFError,
        zipfile.BadZipFile,
        NotImplementedError,
        MemoryError,
        SyntaxError,
        TypeError,
        OverflowError,
        RuntimeError,
    ) as error:
        hint = " (arrays of Python objects are never read)" if "pickle" in str(error) else ""
        raise UserError(f"{path}: not a readable .npz file{hint}: {str(error)[:200]}") from None
    except Exception as error:  # zlib.error and struct.error derive from Exception alone
        raise UserError(f"{path}: a damaged .npz file: {str(error)[:200]}") from None


def read_file(path: Path, target: str | None) -> tuple[Arrays, tuple[str, ...]]:
    """Read a data file.

    Args:
        path: .npz with X, y and optionally X_val, y_val, X_test, y_test; or a .parquet or .csv
            table of numbers with a label column.
        target: name of the label column (tables only).

    Returns:
        the parts as (X float64 (n, inputs), y int64 (n,)), and the names of the classes in order.

    Raises:
        UserError: with all that is wrong with the file.

    """
    suffix = path.suffix.lower()
    if suffix not in READABLE:
        raise UserError(f"{path}: data.path must end in {', '.join(READABLE)}")
    raw = _archive(path) if suffix == ".npz" else {"train": _table(path, target)}
    return _checked(path, raw)


def _archive(path: Path) -> dict[str, tuple[Any, Any]]:
    arrays = load_arrays(path)
    faults = [
        f"{path}: has no array {name}; it has {listing(list(arrays)) or 'none'}"
        for name in ("X", "y")
        if name not in arrays
    ]
    for X, y in _PARTS.values():
        if (X in arrays) != (y in arrays) and X != "X":
            faults.append(f"{path}: has only one of {X} and {y}")
    if faults:
        raise UserError(*faults)
    return {part: (arrays[X], arrays[y]) for part, (X, y) in _PARTS.items() if X in arrays}


def _table(path: Path, target: str | None) -> tuple[Any, Any]:
    import pandas as pd

    if target is None:
        raise UserError(f"{path}: a table needs data.target, the name of its label column")
    try:
        frame = pd.read_parquet(path) if path.suffix.lower() == ".parquet" else pd.read_csv(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # pyarrow and pandas raise many kinds for damaged files
        raise UserError(f"{path}: not a readable table: {str(error)[:200]}") from None
    names = [str(name) for name in frame.columns]
    frame.columns = pd.Index(names)
    if target not in names:
        close = nearest(target, names)
        hint = f"; did you mean {close}?" if close else ""
        raise UserError(f"{path}: has no column {target}; it has {listing(names)}{hint}")
    if len(set(names)) < len(names):
        raise UserError(f"{path}: has two columns of one name")
    inputs = frame.drop(columns=target)
    bad = [name for name in inputs.columns if not pd.api.types.is_numeric_dtype(inputs[name].dtype)]
    if bad:
        raise UserError(
            *(
                f"{path}: column {name} holds text where numbers belong "
                f"(such as {inputs[name].iloc[0]!r})"
                if len(inputs)
                else f"{path}: column {name} is empty"
                for name in bad
            )
        )
    missing = frame[target].isna()
    if missing.any():
        raise UserError(
            f"{path}: column {target} lacks a label in {int(missing.sum())} rows "
            f"(first: row {int(np.flatnonzero(missing.to_numpy())[0]) + 1})"
        )
    return inputs.to_numpy(dtype=np.float64, na_value=np.nan), frame[target].to_numpy()


def _checked(path: Path, raw: dict[str, tuple[Any, Any]]) -> tuple[Arrays, tuple[str, ...]]:
    """Check shapes and values, and number the classes from 0."""
    faults: list[str] = []
    for part, (X, y) in raw.items():
        X_name, y_name = _PARTS[part]
        if X.ndim not in (2, 4) or 0 in X.shape:
            faults.append(
                f"{path}: {X_name} has shape {X.shape}; allowed: (samples, inputs), or pictures "
                "as (samples, channels, height, width)"
            )
        elif X.dtype.kind not in "fiub":
            faults.append(f"{path}: {X_name} holds {X.dtype}; allowed: numbers")
        elif not np.isfinite(X).all():
            row, *place = np.argwhere(~np.isfinite(X.astype(np.float64)))[0]
            where = f"column {place[0] + 1}" if X.ndim == 2 else f"at {tuple(map(int, place))}"
            faults.append(
                f"{path}: {X_name} holds NaN or infinity (first in row {row + 1}, {where}); "
                "allowed: finite numbers"
            )
        if y.ndim != 1:
            faults.append(f"{path}: {y_name} has shape {y.shape}; allowed: (samples,)")
        elif X.ndim and len(X) != len(y):
            faults.append(f"{path}: {X_name} has {len(X)} samples and {y_name} {len(y)}")
        elif y.dtype.kind == "f" and not (np.isfinite(y).all() and (y == np.round(y)).all()):
            faults.append(f"{path}: {y_name} holds fractions or NaN; allowed: class labels")
        elif y.dtype.kind not in "fiubUSOT":
            faults.append(f"{path}: {y_name} holds {y.dtype}; allowed: class labels")
    if faults:
        raise UserError(*faults)
    shapes = {_PARTS[part][0]: X.shape[1:] for part, (X, _) in raw.items()}
    if len(set(shapes.values())) > 1:
        shown = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise UserError(f"{path}: parts differ in the shape of a sample: {shown}")
    labels = {part: _labels(y) for part, (_, y) in raw.items()}
    names = _class_names(labels["train"])
    if len(names) < 2:
        raise UserError(
            f"{path}: all labels are {listing(list(names))}; at least two classes are needed"
        )
    index = {name: i for i, name in enumerate(names)}
    made: Arrays = {}
    for part, (X, _) in raw.items():
        strange = sorted(set(labels[part]) - set(index), key=str)
        if strange:
            faults.append(
                f"{path}: {_PARTS[part][1]} has labels that training lacks: {listing(strange)}"
            )
            continue
        y = np.array([index[label] for label in labels[part]], dtype=np.int64)
        made[part] = (np.asarray(X, dtype=np.float64), y)
    if faults:
        raise UserError(*faults)
    return made, tuple(str(name) for name in names)


def _labels(y: npt.NDArray[Any]) -> list[Any]:
    if y.dtype.kind in "fiub":
        return [int(label) for label in y]
    return [
        label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)
        for label in y.tolist()
    ]


def _class_names(labels: list[Any]) -> list[Any]:
    """Classes in order. Whole numbers from 0 keep their numbers, an absent one between included."""
    found = sorted(set(labels))
    if all(isinstance(label, int) for label in found) and found[0] >= 0 and found[-1] < 10_000:
        top = found[-1] + 1
        if found[0] in (0, 1) and top - len(found) <= 1 + len(found):
            return list(range(top)) if found[0] == 0 else found
    return found
