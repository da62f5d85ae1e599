"""Data sets by name."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tiltcli.data.arrays import Dataset
from tiltcli.data.cifar10 import cifar10_dataset
from tiltcli.data.idx import fashion_mnist_dataset, idx_dataset
from tiltcli.data.own_data import own_dataset
from tiltcli.data.scaling import prepared
from tiltcli.data.spiral import spiral_dataset
from tiltcli.data.splitting import limited, split
from tiltcli.data.user_files import file_dataset
from tiltcli.grid.paths import DATA_DIGESTS, digest_of, unchanged
from tiltcli.grid.settings import FACTORIES, PATHS


def load_dataset(settings: Mapping[str, Any], files: Mapping[str, str] | None = None) -> Dataset:
    """Return the data that a job's settings name, made or read, as its network takes it."""
    kind = str(settings["data.kind"])
    named = {key: settings[key] for key in PATHS if settings.get(key)} | dict(files or {})
    paths = {key: Path(path) for key, path in named.items() if key not in FACTORIES}
    name = str(paths.get("data.path", kind))
    with ExitStack() as stack:
        for key, path in paths.items():
            reader = DATA_DIGESTS[kind] if key == "data.path" else digest_of
            stack.enter_context(unchanged(path, settings.get(PATHS[key]), reader))
        data = _made(settings, kind, paths, named)
    if (limit := settings.get("data.limit")) is not None:
        seed = int(settings.get("data.seed", 0))
        data = replace(data, train=limited(data.train, limit, seed, data.classes, name))
    return prepared(
        data,
        pictures=settings.get("model.kind", "mlp") != "mlp",
        standardize=bool(settings["data.standardize"]),
        dtype=str(settings.get("train.dtype", "float64")),
        name=name,
    )


def _made(
    settings: Mapping[str, Any], kind: str, paths: Mapping[str, Path], named: Mapping[str, str]
) -> Dataset:
    place, seed = paths.get("data.path"), int(settings.get("data.seed", 0))
    if kind == "spiral":
        return spiral_dataset(settings)
    if kind == "digits":
        return _digits(seed)
    if kind == "cifar10":
        return cifar10_dataset(place, seed)
    if kind == "fashion_mnist":
        return fashion_mnist_dataset(place, seed)
    if kind == "idx":
        return idx_dataset(paths["data.path"], seed)
    if kind == "python":
        return own_dataset(settings, named["data.factory"])
    return file_dataset(settings, paths)


def _digits(seed: int) -> Dataset:
    """Scikit-learn's handwritten digits: 1797 pictures of shape (1, 8, 8), split 60/20/20."""
    from sklearn.datasets import load_digits

    values, digits = load_digits(return_X_y=True)
    pictures = np.asarray(values, dtype=np.float64).reshape(-1, 1, 8, 8)
    labels = tuple(str(c) for c in range(10))
    y = np.asarray(digits, dtype=np.int64)
    parts = split(pictures, y, (0.6, 0.2, 0.2), seed, labels, "digits")
    return Dataset(*parts, classes=10, labels=labels)
