"""The data of a job, made once per process and shared by the jobs that train on it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace

from tiltcli.data import cifar10, idx
from tiltcli.data.arrays import Dataset
from tiltcli.data.datasets import load_dataset
from tiltcli.data.fetch import Published, cache_folder, fetched
from tiltcli.grid.jobs import Job
from tiltcli.grid.settings import PATHS, deciding
from tiltcli.schedule import groups_of

MOST_BYTES = 1 << 30
"""Memory that kept data sets may take together; the last one used is kept whatever its size."""

_DIGESTS = frozenset(deciding("data"))
_DECIDING = _DIGESTS | {path for path, digest in PATHS.items() if digest in _DIGESTS}
_kept: OrderedDict[str, Dataset] = OrderedDict()
_lock = threading.Lock()


def dataset_of(job: Job) -> Dataset:
    """Return the data of a job; jobs with equal data settings get the very same arrays.

    Where the loss weighs random groups of samples, the training part says which sample is in which.

    Propagates `UserError` as `load_dataset`.
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
    return replace(data, train=replace(data.train, groups=groups))


def downloads_of(job: Job) -> tuple[Published, ...]:
    """Return what has to be fetched before the job can be trained."""
    if job.files.get("data.path"):
        return ()
    wanted = {"cifar10": (cifar10.PUBLISHED,), "fashion_mnist": idx.PUBLISHED}
    needed = wanted.get(job["data.kind"], ())
    if needed == idx.PUBLISHED and idx.debian_folder() is not None:
        return ()
    cache = cache_folder()
    return tuple(one for one in needed if not (cache / one.folder / one.filename).is_file())


def fetch_for(jobs: Iterable[Job]) -> None:
    """Fetch what jobs need, with a progress bar on stderr; nothing where all is there."""
    for published in dict.fromkeys(found for job in jobs for found in downloads_of(job)):
        fetched(published, cache_folder())
