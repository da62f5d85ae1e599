"""The user's own data: .npz, .parquet and .csv files, in parts and as numbers."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltcli.data.array_files import PARTS, array_parts, read_arrays
from tiltcli.data.arrays import Dataset, Part
from tiltcli.data.encoding import (
    Encoding,
    check_faults,
    column_faults,
    encode,
    fit,
    origins,
    value_faults,
)
from tiltcli.data.labels import Label, numbered, whole_numbers
from tiltcli.data.limits import check_bytes
from tiltcli.data.splitting import Rows, split_rows
from tiltcli.data.table_files import Table, read_table
from tiltcli.errors import UserError, each, listing

if TYPE_CHECKING:
    import pandas as pd

READABLE = (".npz", ".parquet", ".csv")
_PATHS = {"train": "data.path", "val": "data.val_path", "test": "data.test_path"}


def file_dataset(settings: Mapping[str, Any], files: Mapping[str, Path]) -> Dataset:
    """Return a job's data from its files: arrays in their own dtype, tables float64."""
    paths = {part: files[key] for part, key in _PATHS.items() if key in files}
    each(_check_readable, paths.items())
    arrays = {path.suffix.lower() == ".npz" for path in paths.values()}
    if len(arrays) > 1:
        shown = listing(list(paths.values()))
        raise UserError(f"{shown}: allowed: .npz files alone, or .parquet and .csv alone")
    inputs, labels, texts = (_arrays if arrays == {True} else _tables)(paths, settings)
    source = str(paths["train"])
    called = {part: paths[part].name if part in paths else PARTS[part][1] for part in labels}
    classes, names = numbered(source, labels, called)
    shares = settings.get("data.split")
    if shares is not None:
        own = [part for part, share in zip(PARTS, shares, strict=True) if share and part in inputs]
        if own != ["train"]:
            raise UserError(
                f"{source}: data.split has a share for {listing(own[1:])}, and there is such a "
                "part already; allowed: a share of 0"
            )
        X, y = inputs["train"], classes["train"]
        chosen = split_rows(y, shares, settings["data.seed"], names, source)
        for part, rows in zip(PARTS, chosen, strict=True):
            if rows is not None:
                inputs[part], classes[part] = _taken(X, rows), y[rows]
    kept = None
    if texts is not None:
        encoding = _fitted(source, inputs["train"], texts, settings)
        kept = json.dumps(encoding)
        wide = sum(map(len, inputs.values())) * len(origins(encoding))
        check_bytes(paths["train"], 8 * wide, "what its columns become")
        inputs = {part: encode(table, encoding, source) for part, table in inputs.items()}
    train, val, test = (Part(inputs[p], classes[p]) if p in inputs else None for p in PARTS)
    assert train is not None
    return Dataset(train, val, test, len(names), names, kept)


def _check_readable(item: tuple[str, Path]) -> None:
    part, path = item
    if path.suffix.lower() not in READABLE:
        raise UserError(f"{path}: {_PATHS[part]} must end in {', '.join(READABLE)}")
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{path}: not a plain file")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None


Read = tuple[dict[str, Any], dict[str, list[Label]], "frozenset[str] | None"]
"""Inputs, arrays or frames, and labels of each part; of frames the columns of texts."""


def _arrays(paths: Mapping[str, Path], _settings: Mapping[str, Any]) -> Read:
    inputs, labels = array_parts(str(paths["train"]), read_arrays(paths["train"]))
    for part, path in paths.items():
        if part == "train":
            continue
        X, y = array_parts(str(path), read_arrays(path))
        if part in inputs or len(X) > 1:
            raise UserError(f"{path}: {part} is there twice; allowed: X and y of that part alone")
        if X["train"].shape[1:] != inputs["train"].shape[1:]:
            shown = f"{X['train'].shape[1:]}; that to train on has {inputs['train'].shape[1:]}"
            raise UserError(f"{path}: a sample has the shape {shown}")
        inputs[part], labels[part] = X["train"], y["train"]
    return inputs, labels, None


def _tables(paths: Mapping[str, Path], settings: Mapping[str, Any]) -> Read:
    target = settings.get("data.target")
    missing = settings.get("data.missing", "refuse")
    learnt = read_table(paths["train"], target)
    texts = learnt.texts
    needed = {str(name): None if name in texts else missing == "median" for name in learnt.columns}

    def read(item: tuple[str, Path]) -> Table:
        part, path = item
        if part == "train":
            found = learnt
            categorical = settings.get("data.categorical", "refuse")
            faults = column_faults(found.columns, texts, categorical, missing)
        else:
            found = read_table(path, target, texts)
            faults = value_faults(found.columns, needed)
        check_faults(str(path), faults + found.faults)
        return found

    tables = dict(zip(paths, each(read, paths.items()), strict=True))
    # Whole numbers only where they are such in all files.
    plain = iter(whole_numbers([label for one in tables.values() for label in one.labels]))
    labels = {part: list(islice(plain, len(one.labels))) for part, one in tables.items()}
    return {part: one.columns for part, one in tables.items()}, labels, texts


def _fitted(
    source: str, table: pd.DataFrame, texts: frozenset[str], settings: Mapping[str, Any]
) -> Encoding:
    try:
        return fit(table, texts, settings.get("data.missing", "refuse"))
    except UserError as error:
        raise UserError(*(f"{source}: {fault}" for fault in error.faults)) from None


def _taken(X: Any, rows: Rows) -> Any:
    return X[rows] if isinstance(X, np.ndarray) else X.iloc[rows]
