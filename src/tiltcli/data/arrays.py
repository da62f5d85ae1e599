"""What a data set is: arrays in parts."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Inputs = npt.NDArray[Any]
Labels = npt.NDArray[np.int64]
MOST_LABEL_TEXT = 4096  # characters; it stands in every row of the jobs table


class Layout(Protocol):
    """Arrays in the form that an engine takes."""

    @property
    def nbytes(self) -> int:
        """Memory that they take, bytes."""


L = TypeVar("L", bound=Layout)


@dataclass(frozen=True, eq=False)
class Part:
    """One part of a data set."""

    # in the job's dtype, C-contiguous: (samples, inputs), or (samples, channels, height, width)
    X: Inputs
    y: Labels  # class of each sample, int64 from 0, (samples,)
    groups: Labels | None = None  # group of each sample, whose Γ weighs it; None: its class
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
