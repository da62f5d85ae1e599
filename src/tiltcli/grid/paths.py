"""What a file is, whatever its name or place: its digest."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tiltcli.errors import RunError

CIFAR10_FOLDER = "cifar-10-batches-bin"
CIFAR10_BATCHES = (*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin")
CIFAR10_LABELS = "batches.meta.txt"
IDX_FILES = tuple(
    f"{part}-{what}-ubyte" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")
)
"""Of a folder in MNIST's format: pictures and labels to train on, then those that judge."""


def located(path: str, folder: Path) -> Path:
    """Where a path in a grid file lies: relative to the file's folder; `~` is the user's home."""
    try:
        return folder / Path(path).expanduser()
    except RuntimeError:  # ~someone, who is not there: then it is a name
        return folder / path


def digest_of(path: Path) -> str:
    """Return 16 hexadecimal digits of a file's SHA-256; `OSError` if it is no plain file."""
    _check_plain(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _check_plain(path: Path) -> None:
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a plain file", str(path))


@contextmanager
def unchanged(
    path: Path, expected: str | None, reader: Callable[[Path], str | None]
) -> Iterator[None]:
    """Refuse what the body has read of a file if it is not what the jobs were made with.

    The file is digested after it was read: what is swapped in before, or meanwhile, is found out.
    Without a digest of when the grid was read anything will do.
    """
    try:
        yield
    finally:
        if expected is not None:
            with suppress(OSError):  # the body says so itself
                check_same(path, expected, reader(path))


def check_same(path: Path, expected: str | None, found: str | None) -> None:
    """Refuse a file that has another digest than when the grid was read."""
    if found != expected:
        raise RunError(
            f"{path}: has changed since the grid was read: its digest is {found} now, and was "
            f"{expected}. What is finished is kept; run again with the file that it was, or give "
            "the run of the new one a name of its own (--set name=…)"
        )


def cifar10_place(path: Path) -> Path:
    """Return the archive, or the folder of the six batches, that a path in or above them means."""
    if path.is_file():
        return path
    what = os.strerror(errno.ENOENT)
    if path.is_dir():
        for place in (path, path / CIFAR10_FOLDER):
            if (place / CIFAR10_BATCHES[0]).exists():
                return place
        archive = path / "cifar-10-binary.tar.gz"
        if archive.is_file():
            return archive
        what = f"holds neither {CIFAR10_BATCHES[0]} … nor {archive.name}"
    raise FileNotFoundError(errno.ENOENT, what, str(path))


def cifar10_digest(path: Path) -> str | None:
    """Return the digest of a folder's batches; None for an archive.

    An archive is only read if it is the published one, so that its kind says all; wherever it
    lies, its jobs are the same.

    Propagates `OSError` if there is no such file or it cannot be read.
    """
    place = cifar10_place(path)
    return _digest_of_all(place / name for name in CIFAR10_BATCHES) if place.is_dir() else None


def _digest_of_all(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        _check_plain(file)
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:16]


def idx_files(folder: Path) -> list[Path]:
    """Return the four files of a folder in MNIST's format, each plain or else packed by gzip."""
    if not folder.is_dir():
        what = "not a folder" if folder.exists() else os.strerror(errno.ENOENT)
        raise FileNotFoundError(errno.ENOENT, what, str(folder))
    found = []
    missing = []
    for name in IDX_FILES:
        places = [place for end in ("", ".gz") if (place := folder / f"{name}{end}").exists()]
        found += places[:1]
        missing += [name] * (not places)
    if missing:
        what = f"lacks {', '.join(missing)} (plain or with .gz)"
        raise FileNotFoundError(errno.ENOENT, what, str(folder))
    return found


def idx_digest(folder: Path) -> str:
    """Return the digest of a folder's four files; propagates `OSError` as `idx_files`."""
    return _digest_of_all(idx_files(folder))


def no_digest(folder: Path) -> None:
    """Fashion-MNIST is only read if it is the published one; propagates `OSError`."""
    idx_files(folder)


DATA_DIGESTS: dict[str, Callable[[Path], str | None]] = {
    "file": digest_of,
    "cifar10": cifar10_digest,
    "idx": idx_digest,
    "fashion_mnist": no_digest,
}
"""How the digest of `data.path` is made, by `data.kind`."""
