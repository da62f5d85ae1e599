"""What a file is, whatever its name or place: its digest."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

CIFAR10_FOLDER = "cifar-10-batches-bin"
CIFAR10_BATCHES = (*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin")
CIFAR10_LABELS = "batches.meta.txt"


def located(path: str, folder: Path) -> Path:
    """Where a path in a grid file lies: relative to the file's folder; `~` is the user's home."""
    try:
        return folder / Path(path).expanduser()
    except RuntimeError:  # ~someone, who is not there: then it is a name
        return folder / path


def digest_of(path: Path) -> str:
    """Return the first 16 hexadecimal digits of the file's SHA-256.

    Propagates `OSError` if it cannot be read, or is no plain file (a pipe or a device has no end).
    """
    _check_plain(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _check_plain(path: Path) -> None:
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a plain file", str(path))


def cifar10_place(path: Path) -> Path:
    """Return the archive, or the folder of the six batches, that a path to CIFAR-10 means.

    A folder may hold the batches themselves, the archive's own folder, or the archive.

    Raises:
        FileNotFoundError: if there is nothing of the kind.

    """
    if path.is_file():
        return path
    if path.is_dir():
        for place in (path, path / CIFAR10_FOLDER):
            if (place / CIFAR10_BATCHES[0]).exists():
                return place
        archive = path / "cifar-10-binary.tar.gz"
        if archive.is_file():
            return archive
        what = f"holds neither {CIFAR10_BATCHES[0]} … nor cifar-10-binary.tar.gz"
        raise FileNotFoundError(errno.ENOENT, what, str(path))
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def cifar10_digest(path: Path) -> str | None:
    """Return the digest of a folder's batches; None for an archive.

    An archive is only read if it is the published one, so that its kind says all; wherever it
    lies, its jobs are the same.

    Propagates `OSError` if there is no such file or it cannot be read.
    """
    place = cifar10_place(path)
    if not place.is_dir():
        return None
    digest = hashlib.sha256()
    for name in CIFAR10_BATCHES:
        _check_plain(place / name)
        with (place / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
