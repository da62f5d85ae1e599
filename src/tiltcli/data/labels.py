"""From labels as a file has them to classes numbered from 0."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tiltcli.data.arrays import Labels
from tiltcli.errors import UserError, listing

Label = int | str
MOST_CLASSES = 10_000


def plain_labels(y: npt.NDArray[Any]) -> list[Label]:
    """Labels as whole numbers where they are such, else as texts."""
    if y.dtype.kind in "fiub":
        return [int(label) for label in y.tolist()]
    texts = [
        label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)
        for label in y.tolist()
    ]
    return list(texts)


def fractions(labels: Sequence[str]) -> int | None:
    """Return the index of the first fraction if all labels are numbers: those are measurements."""
    first = None
    for i, label in enumerate(labels):
        try:
            value = float(label)
        except ValueError:
            return None
        if first is None and math.isfinite(value) and not value.is_integer():
            first = i
    return first


def whole_numbers(labels: Sequence[str]) -> list[Label]:
    """Texts as whole numbers where all of them are such, so that 10 comes after 9."""
    try:
        values = [float(label) for label in labels]
        if all(value.is_integer() and abs(value) < 2**53 for value in values):
            return [int(value) for value in values]
    except ValueError:
        pass
    return list(labels)


def class_names(labels: Sequence[Label]) -> list[Label]:
    """Classes in order. Whole numbers from 0 keep their numbers, an absent one between included."""
    found = sorted(set(labels), key=lambda label: (isinstance(label, str), label))
    numbers = [label for label in found if isinstance(label, int)]
    if len(numbers) == len(found) and found and numbers[0] == 0 and numbers[-1] < MOST_CLASSES:
        top = numbers[-1] + 1
        if top - len(found) <= 1 + len(found):
            return list(range(top))
    return found


def numbered(
    source: str, labels: Mapping[str, Sequence[Label]], called: Mapping[str, str]
) -> tuple[dict[str, Labels], tuple[str, ...]]:
    """Return the classes of each part, from 0 as training has them, and their names in order."""
    names = class_names(labels["train"])
    if not 2 <= len(names) <= MOST_CLASSES:
        what = (
            f"all labels are {names[0]}; at least two classes are needed"
            if len(names) == 1
            else f"the labels make {len(names):,} classes; at most {MOST_CLASSES:,} are allowed"
        )
        raise UserError(f"{source}: {what}")
    index = {name: i for i, name in enumerate(names)}
    faults = [
        f"{source}: {called[part]} has labels that training lacks: {listing(strange)}"
        for part, found in labels.items()
        if (strange := sorted(set(found) - set(index), key=str))
    ]
    if faults:
        raise UserError(*faults)
    made = {
        part: np.array([index[label] for label in found], dtype=np.int64)
        for part, found in labels.items()
    }
    return made, tuple(map(str, names))
