"""The user's own data: .npz, .parquet and .csv files, or arrays that a function makes."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tiltcli.data.array_files import NAMES, PARTS, array_parts, load_arrays
from tiltcli.data.arrays import Dataset, Label, Labels, Part, numbered, whole_numbers
from tiltcli.data.encoding import check_faults, column_faults, encode, fit, origins, value_faults
from tiltcli.data.limits import check_bytes
from tiltcli.data.preparation import split_rows
from tiltcli.data.table_files import Table, read_table
from tiltcli.errors import UserError, each, listing, with_suggestion
from tiltcli.grid.factories import call, fault_of, load
from tiltcli.grid.settings import given_arguments

if TYPE_CHECKING:
    pass

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
                inputs[part] = X[rows] if texts is None else X.iloc[rows]
                classes[part] = y[rows]
    kept = None
    if texts is not None:
        encoding = fit(inputs["train"], texts, settings.get("data.missing", "refuse"), source)
        kept = json.dumps(encoding)
        wide = sum(map(len, inputs.values())) * len(origins(encoding))
        check_bytes(paths["train"], 8 * wide, "what its columns become")
        inputs = {part: encode(table, encoding, source) for part, table in inputs.items()}
    return _dataset(inputs, classes, names, kept)


def _dataset(
    inputs: Mapping[str, npt.NDArray[Any]],
    classes: Mapping[str, Labels],
    names: tuple[str, ...],
    encoding: str | None = None,
) -> Dataset:
    parts = {part: Part(X, classes[part]) for part, X in inputs.items()}
    val, test = parts.get("val"), parts.get("test")
    return Dataset(parts["train"], val, test, len(names), names, encoding)


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
    inputs, labels = array_parts(str(paths["train"]), load_arrays(paths["train"], NAMES))
    for part, path in paths.items():
        if part == "train":
            continue
        X, y = array_parts(str(path), load_arrays(path, NAMES))
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


def own_dataset(settings: Mapping[str, Any], factory: str) -> Dataset:
    """Return the arrays, in their own dtypes, that the user's function makes for a job."""
    digest = settings.get("data.factory_digest")
    make = load(factory, digest)
    known = {"seed": settings["data.seed"]}
    found = call(factory, make, known, given_arguments(settings, "data.args"), "data.args", digest)
    if not isinstance(found, Mapping):
        said = f"returned {type(found).__name__}; needed: a dict of arrays, X, y and optionally "
        raise UserError(fault_of(factory, said + ", ".join(NAMES[2:]), make))
    strange = [name for name in found if name not in NAMES]
    if strange:
        problem = f"returned {listing(strange)}, which is unknown"
        said = with_suggestion(problem, str(strange[0]), NAMES, says="known")
        raise UserError(fault_of(factory, said, make))
    try:
        names = [name for name, value in found.items() if value is not None]
        arrays = dict(zip(names, each(_array, [(n, found[n]) for n in names]), strict=True))
        inputs, labels = array_parts("returned arrays", arrays)
        classes, kinds = numbered("returned arrays", labels, {p: y for p, (_, y) in PARTS.items()})
    except UserError as error:
        faults = [fault_of(factory, fault.message, make) for fault in error.faults]
        raise UserError(*faults) from None
    return _dataset(inputs, classes, kinds)


def _array(item: tuple[str, Any]) -> npt.NDArray[Any]:
    name, value = item
    try:
        array = np.asarray(value)
    except Exception as error:  # whatever the user's object raises
        raise UserError(
            f"returned as {name} what is no array: {type(error).__name__}: {error}"
        ) from None
    if array.dtype != object:
        return array
    # Texts as pandas keeps them.
    if array.ndim == 1 and all(isinstance(one, str) for one in array.tolist()):
        return array.astype(str)
    raise UserError(
        f"returned as {name} an array of Python objects; allowed: numbers, and texts as labels"
    )
