"""The data a job trains on: training, validation and test parts."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tiltcli.data.files import read_file
from tiltcli.records import UserError

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Part:
    """One part of a data set.

    Attributes:
        X: inputs, float64, shape (samples, inputs), or (samples, channels, height, width) where
            pictures are wanted as such.
        y: class of each sample, int64 from 0, shape (samples,).

    """

    X: Array
    y: Labels

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.y)


@dataclass(frozen=True)
class Dataset:
    """A data set, split; validation and test may be missing.

    Attributes:
        train: the part that is trained on.
        val: the part that choices are made on, or None.
        test: the part that judges, or None.
        classes: number of classes C.
        labels: name of each class.

    """

    train: Part
    val: Part | None
    test: Part | None
    classes: int
    labels: tuple[str, ...]

    def each(self, change: Callable[[Array], Array]) -> Dataset:
        """Return the data set with the inputs of every part changed alike."""
        train, val, test = (
            None if part is None else Part(change(part.X), part.y)
            for part in (self.train, self.val, self.test)
        )
        assert train is not None
        return Dataset(train, val, test, self.classes, self.labels)


def load_dataset(
    settings: Mapping[str, Any], path: Path | None = None, *, pictures: bool = False
) -> Dataset:
    """Make or read the data that a job's settings name.

    Args:
        settings: the job's settings (`data.*`).
        path: where the file lies, for `data.kind = "file"`.
        pictures: keep pictures as (channels, height, width) and scale each channel; otherwise
            every sample is one row of inputs, each scaled by itself.

    Raises:
        UserError: if the file cannot be read or holds what cannot be trained on.

    """
    kind = settings["data.kind"]
    if kind == "spiral":
        data = _spiral_dataset(settings)
    elif kind == "digits":
        data = _digits(int(settings["data.seed"]))
    else:
        data = _file(settings, Path(path if path is not None else settings["data.path"]))
    if not pictures:
        data = data.each(lambda X: X.reshape(len(X), -1))
    return _standardised(data) if settings["data.standardize"] else data


def spiral(
    seed: int,
    points_per_class: int = 100,
    classes: int = 3,
    revolutions: float = 4.0,
    noise: float = 0.2,
) -> Part:
    """Draw the spiral of the paper's simple model (arXiv:2102.03793, section 3).

    Args:
        seed: of NumPy's legacy generator, so that the authors' own points come out.
        points_per_class: N, radii from 0 to 1.
        classes: number of arms.
        revolutions: half turns of an arm, θ spans revolutions · π.
        noise: standard deviation of the angle, radians.

    Returns:
        inputs of shape (classes · N, 2) and labels, class after class.

    """
    # The published experiment is defined by the legacy generator.
    generator = np.random.RandomState(seed)
    radius = np.linspace(0.0, 1.0, points_per_class)
    points = []
    for label in range(classes):
        start = 2 * np.pi * label / classes
        angle = np.linspace(start, start + revolutions * np.pi, points_per_class)
        angle = angle + noise * generator.randn(points_per_class)
        points.append(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1))
    labels = np.repeat(np.arange(classes, dtype=np.int64), points_per_class)
    return Part(np.concatenate(points), labels)


def _spiral_dataset(settings: Mapping[str, Any]) -> Dataset:
    seed, classes = settings["data.seed"], settings["data.classes"]
    shape = (
        settings["data.points_per_class"],
        classes,
        settings["data.revolutions"],
        settings["data.noise"],
    )
    # Validation and test are fresh draws of the same spiral.
    train, val, test = (spiral(seed + offset, *shape) for offset in range(3))
    return Dataset(train, val, test, classes, tuple(str(c) for c in range(classes)))


def _digits(seed: int) -> Dataset:
    from sklearn.datasets import load_digits

    pictures, labels = load_digits(return_X_y=True)
    return _split(
        np.asarray(pictures, dtype=np.float64).reshape(-1, 1, 8, 8),
        np.asarray(labels, dtype=np.int64),
        (0.6, 0.2, 0.2),
        seed,
        tuple(str(c) for c in range(10)),
        "digits",
    )


def _file(settings: Mapping[str, Any], path: Path) -> Dataset:
    parts, labels = read_file(path, settings.get("data.target"))
    split = settings.get("data.split")
    if split is not None:
        if "val" in parts or "test" in parts:
            raise UserError(
                f"{path}: brings its own validation or test arrays; leave data.split out"
            )
        X, y = parts["train"]
        return _split(X, y, split, settings["data.seed"], labels, str(path))
    made = {name: Part(X, y) for name, (X, y) in parts.items()}
    return Dataset(made["train"], made.get("val"), made.get("test"), len(labels), labels)


def _split(
    X: Array, y: Labels, shares: tuple[float, ...], seed: int, labels: tuple[str, ...], name: str
) -> Dataset:
    """Split at random with every class in proportion."""
    from sklearn.model_selection import train_test_split

    def cut(rows: npt.NDArray[np.intp], share: float) -> tuple[Any, Any]:
        if share <= 0:
            return rows, None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                first, second = train_test_split(
                    rows, test_size=share, random_state=seed, stratify=y[rows]
                )
            return first, second
        except ValueError as error:
            few = np.bincount(y).argmin()
            raise UserError(
                f"{name}: cannot be split {list(shares)} with every class in each part: {error} "
                f"(class {labels[few]} has the fewest samples, {np.bincount(y).min()})"
            ) from None

    rows, test = cut(np.arange(len(y)), shares[2])
    left = 1.0 - shares[2]
    rows, val = cut(rows, shares[1] / left)
    chosen = [
        None if part is None else Part(X[np.sort(part)], y[np.sort(part)])
        for part in (rows, val, test)
    ]
    assert chosen[0] is not None
    return Dataset(chosen[0], chosen[1], chosen[2], len(labels), labels)


def _standardised(data: Dataset) -> Dataset:
    """Scale by the training part's mean and standard deviation: every input, or every channel.

    A convolution treats all places of a channel alike, so these are scaled together.
    """
    over = 0 if data.train.X.ndim == 2 else (0, 2, 3)
    mean = data.train.X.mean(axis=over, keepdims=True)[0]
    spread = data.train.X.std(axis=over, keepdims=True)[0]
    spread[spread == 0] = 1.0  # an input that never varies stays at zero
    return data.each(lambda X: (X - mean) / spread)


def source_path(files: Mapping[str, str]) -> Path | None:
    """Where a job's data file lies on this machine, if it has one."""
    name = files.get("data.path")
    return None if name is None else Path(os.fspath(name))
