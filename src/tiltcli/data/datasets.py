"""Data sets by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tiltcli.data.array_files import read_file
from tiltcli.data.arrays import Dataset, Part
from tiltcli.data.cifar10 import cifar10_dataset
from tiltcli.data.idx import fashion_mnist_dataset, idx_dataset
from tiltcli.data.scaling import prepared
from tiltcli.data.spiral import spiral_dataset
from tiltcli.data.splitting import limited, split
from tiltcli.errors import UserError


def load_dataset(settings: Mapping[str, Any], path: Path | None = None) -> Dataset:
    """Return the data that a job's settings name, made or read, as its network takes it.

    Propagates `UserError` if the file cannot be read or holds what cannot be trained on.

    Args:
        settings: the job's settings: `data.*`, and `model.kind` ("mlp" if absent) and
            `train.dtype` ("float64" if absent), which decide the shape and dtype of the inputs.
        path: where the file lies on this machine; default: `data.path`.

    """
    kind = str(settings["data.kind"])
    given = path if path is not None else settings.get("data.path")
    place = None if given is None else Path(given)
    seed = int(settings.get("data.seed", 0))
    if kind == "spiral":
        data = spiral_dataset(settings)
    elif kind == "digits":
        data = _digits(seed)
    elif kind == "cifar10":
        data = cifar10_dataset(place, seed)
    elif kind == "fashion_mnist":
        data = fashion_mnist_dataset(place, seed)
    else:
        assert place is not None
        data = idx_dataset(place, seed) if kind == "idx" else _file(settings, place)
    name = kind if place is None else str(place)
    if (limit := settings.get("data.limit")) is not None:
        data = replace(data, train=limited(data.train, limit, seed, data.classes, name))
    return prepared(
        data,
        pictures=settings.get("model.kind", "mlp") != "mlp",
        standardize=bool(settings["data.standardize"]),
        dtype=str(settings.get("train.dtype", "float64")),
        name=name,
    )


def _digits(seed: int) -> Dataset:
    """Scikit-learn's handwritten digits: 1797 pictures of shape (1, 8, 8), split 60/20/20."""
    from sklearn.datasets import load_digits

    values, digits = load_digits(return_X_y=True)
    pictures = np.asarray(values, dtype=np.float64).reshape(-1, 1, 8, 8)
    labels = tuple(str(c) for c in range(10))
    y = np.asarray(digits, dtype=np.int64)
    parts = split(pictures, y, (0.6, 0.2, 0.2), seed, labels, "digits")
    return Dataset(*parts, classes=10, labels=labels)


def _file(settings: Mapping[str, Any], path: Path) -> Dataset:
    parts, labels = read_file(path, settings.get("data.target"))
    shares = settings.get("data.split")
    if shares is not None:
        if "val" in parts or "test" in parts:
            raise UserError(
                f"{path}: brings its own validation or test arrays; leave data.split out"
            )
        X, y = parts["train"]
        chosen = split(X, y, shares, settings["data.seed"], labels, str(path))
        return Dataset(*chosen, classes=len(labels), labels=labels)
    made = {name: Part(X, y) for name, (X, y) in parts.items()}
    return Dataset(made["train"], made.get("val"), made.get("test"), len(labels), labels)
