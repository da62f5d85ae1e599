"""What a data set is: arrays in parts, and labels as classes numbered from 0."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tiltcli.errors import UserError, listing

Inputs = npt.NDArray[Any]
Labels = npt.NDArray[np.int64]
MOST_LABEL_TEXT = 4096  # characters; it stands in every row of the jobs table

Label = int | str
MOST_CLASSES = 10_000

L = TypeVar("L")


@dataclass(frozen=True, eq=False)
class Part:
    """One part of a data set."""

    # in the job's dtype, C-contiguous: (samples, inputs), or (samples, channels, height, width)
    X: Inputs
    y: Labels  # class of each sample, int64 from 0, (samples,)
    groups: Labels | None = None  # group of each sample, whose Γ weighs it; None: its class
    # arrays as engines take them, each with its `nbytes`
    _layouts: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    def layout(self, key: Hashable, make: Callable[[], L]) -> L:
        """The part as an engine lays it out, kept under a key as long as the part is."""
        if key not in self._layouts:
            self._layouts[key] = make()
        kept: L = self._layouts[key]
        return kept

    @property
    def nbytes(self) -> int:
        """Memory that the arrays take, in all their layouts, bytes."""
        layouts = sum(one.nbytes for one in list(self._layouts.values()))
        return int(self.X.nbytes + self.y.nbytes + layouts)

    @property
    def group(self) -> Labels:
        """Group of each sample, int64 from 0, shape (samples,)."""
        return self.y if self.groups is None else self.groups

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Dataset:
    """A data set, split; validation and test may be missing."""

    train: Part
    val: Part | None  # choices are made on it
    test: Part | None  # it judges
    classes: int  # number of classes C
    labels: tuple[str, ...]  # name of each class
    # how a table's columns became inputs, JSON of `encoding.fit`; None for arrays
    encoding: str | None = None
    # mean and standard deviation that standardised its inputs; None where nothing did
    scale: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = None

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample: (inputs,), or (channels, height, width) of a picture."""
        return tuple(self.train.X.shape[1:])

    @cached_property
    def labels_text(self) -> str | None:
        """Names of the classes as a JSON list, for the jobs table; None where it is very long."""
        text = json.dumps(self.labels, ensure_ascii=False)
        return text if len(text) <= MOST_LABEL_TEXT else None

    @property
    def parts(self) -> dict[str, Part]:
        """Parts that are there, by name: train, val, test."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: part for name, part in named.items() if part is not None}

    @property
    def nbytes(self) -> int:
        """Memory that the arrays take, in all their layouts, bytes."""
        return sum(part.nbytes for part in self.parts.values())


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
