"""Data of the user's own, as the function that the grid file names makes them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tiltcli.data.array_files import PARTS, array_parts
from tiltcli.data.arrays import Dataset, Part
from tiltcli.data.labels import numbered
from tiltcli.errors import Fault, UserError, each, listing, with_suggestion
from tiltcli.grid.factories import call, load
from tiltcli.grid.settings import given_arguments

_NAMES = [name for pair in PARTS.values() for name in pair]


def own_dataset(settings: Mapping[str, Any], factory: str) -> Dataset:
    """Return the arrays, in their own dtypes, that the user's function makes for a job."""
    digest = settings.get("data.factory_digest")
    make = load(factory, digest)
    known = {"seed": settings["data.seed"]}
    found = call(factory, make, known, given_arguments(settings, "data.args"), "data.args", digest)
    path, _, function = factory.rpartition(":")
    line = getattr(getattr(inspect.unwrap(make), "__code__", None), "co_firstlineno", None)

    def place(said: str) -> Fault:
        return Fault(f"{function} {said}", source=path, line=line)

    if not isinstance(found, Mapping):
        said = f"returned {type(found).__name__}; needed: a dict of arrays, X, y and optionally "
        raise UserError(place(said + ", ".join(_NAMES[2:])))
    strange = [name for name in found if name not in _NAMES]
    if strange:
        problem = f"returned {listing(strange)}, which is unknown"
        raise UserError(place(with_suggestion(problem, str(strange[0]), _NAMES, says="known")))
    try:
        names = [name for name, value in found.items() if value is not None]
        arrays = dict(zip(names, each(_array, [(n, found[n]) for n in names]), strict=True))
        inputs, labels = array_parts("returned arrays", arrays)
        classes, kinds = numbered("returned arrays", labels, {p: y for p, (_, y) in PARTS.items()})
    except UserError as error:
        raise UserError(*(place(fault.message) for fault in error.faults)) from None
    train, val, test = (Part(inputs[p], classes[p]) if p in inputs else None for p in PARTS)
    assert train is not None
    return Dataset(train, val, test, len(kinds), kinds)


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
