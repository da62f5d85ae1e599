"""Data sets by name; those of jobs are made once per process and shared by the jobs."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tiltcli.data import pictures
from tiltcli.data.arrays import Dataset, Part
from tiltcli.data.fetch import Published, cache_folder, fetched
from tiltcli.data.preparation import limited, prepared, split
from tiltcli.data.user_files import file_dataset, own_dataset
from tiltcli.grid.jobs import Job
from tiltcli.grid.paths import DATA_DIGESTS, digest_of, unchanged
from tiltcli.grid.settings import FACTORIES, PATHS, deciding
from tiltcli.schedule import groups_of

MOST_BYTES = 1 << 30
"""Memory that kept data sets may take together; the last one used is kept whatever its size."""

_DIGESTS = frozenset(deciding("data"))
_DECIDING = _DIGESTS | {path for path, digest in PATHS.items() if digest in _DIGESTS}
_kept: OrderedDict[str, Dataset] = OrderedDict()
_lock = threading.Lock()


def dataset_of(job: Job) -> Dataset:
    """Return the data of a job; jobs with equal data settings get the very same arrays.

    Where the loss weighs random groups of samples, the training part says which sample is in which;
    where it balances classes too, a group and a class C make the group `group · C + class`.
    """
    settings = {
        name: value
        for name, value in job.settings.items()
        if name in _DECIDING or name.startswith("data.args.")
    }
    files = {name: path for name, path in job.files.items() if name in _DECIDING}
    key = repr((settings, files))  # the settings of every job stand in the same order
    # Held while loading too: threads that want the same data must not each read it.
    with _lock:
        if key not in _kept:
            _kept[key] = load_dataset(settings, files)
        _kept.move_to_end(key)
        while len(_kept) > 1 and sum(data.nbytes for data in _kept.values()) > MOST_BYTES:
            _kept.popitem(last=False)
        data = _kept[key]
    if job.get("loss.groups") != "random":
        return data
    groups = groups_of("random", data.train.y, int(job["train.seed"]))
    if job.get("loss.class_weight") == "balanced":
        groups = groups * data.classes + data.train.y
    return replace(data, train=replace(data.train, groups=groups))


def downloads_of(job: Job) -> tuple[Published, ...]:
    """Return what has to be fetched before the job can be trained."""
    if job.files.get("data.path"):
        return ()
    wanted = {"cifar10": (pictures.CIFAR10,), "fashion_mnist": pictures.FASHION_MNIST}
    needed = wanted.get(job["data.kind"], ())
    if needed == pictures.FASHION_MNIST and pictures.debian_folder() is not None:
        return ()
    cache = cache_folder()
    return tuple(one for one in needed if not (cache / one.folder / one.filename).is_file())


def fetch_for(jobs: Iterable[Job]) -> None:
    """Fetch what jobs need, with a progress bar on stderr; nothing where all is there."""
    for published in dict.fromkeys(found for job in jobs for found in downloads_of(job)):
        fetched(published, cache_folder())


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
    makers: dict[str, Callable[[], Dataset]] = {
        "spiral": lambda: spiral_dataset(settings),
        "digits": lambda: _digits(seed),
        "cifar10": lambda: pictures.cifar10_dataset(place, seed),
        "fashion_mnist": lambda: pictures.fashion_mnist_dataset(place, seed),
        "idx": lambda: pictures.idx_dataset(paths["data.path"], seed),
        "python": lambda: own_dataset(settings, named["data.factory"]),
        "file": lambda: file_dataset(settings, paths),
    }
    return makers[kind]()


def _digits(seed: int) -> Dataset:
    """Scikit-learn's handwritten digits: 1797 pictures of shape (1, 8, 8), split 60/20/20."""
    from sklearn.datasets import load_digits

    values, digits = load_digits(return_X_y=True)
    pictures = np.asarray(values, dtype=np.float64).reshape(-1, 1, 8, 8)
    labels = tuple(str(c) for c in range(10))
    y = np.asarray(digits, dtype=np.int64)
    parts = split(pictures, y, (0.6, 0.2, 0.2), seed, labels, "digits")
    return Dataset(*parts, classes=10, labels=labels)


def spiral(
    seed: int,
    points_per_class: int = 100,
    classes: int = 3,
    revolutions: float = 4.0,
    noise: float = 0.2,
) -> Part:
    """Return a spiral of (classes · points_per_class, 2) float64, class after class.

    Radii go from 0 to 1; the angle spans revolutions · π, as in the authors' code, so that 4 are
    two full turns, and has normal noise, in radians.
    """
    # NumPy's legacy generator: so the authors' own points come out.
    generator = np.random.RandomState(seed)
    radius = np.linspace(0.0, 1.0, points_per_class)
    points = []
    for label in range(classes):
        start = 2 * np.pi * label / classes
        angle = np.linspace(start, start + revolutions * np.pi, points_per_class)
        with np.errstate(over="ignore", invalid="ignore"):  # what is no number is refused later
            angle = angle + noise * generator.randn(points_per_class)
            points.append(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1))
    labels = np.repeat(np.arange(classes, dtype=np.int64), points_per_class)
    return Part(np.concatenate(points), labels)


def spiral_dataset(settings: Mapping[str, Any]) -> Dataset:
    """Draw training, validation and test parts; the latter two are fresh draws (seed + 1, + 2)."""
    names = ("points_per_class", "classes", "revolutions", "noise")
    shape = {name: settings[f"data.{name}"] for name in names}
    train, val, test = (spiral(settings["data.seed"] + draw, **shape) for draw in range(3))
    return Dataset(train, val, test, shape["classes"], tuple(map(str, range(shape["classes"]))))
