"""CIFAR-10 from its binary archive, or from the folder in it; nothing is extracted or unpickled.

Format, from the data set's page (A. Krizhevsky, University of Toronto): five training batches and
a test batch of 10 000 records each; a record is a label byte and 3072 bytes, the red, then the
green, then the blue plane of 32 × 32, row by row.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tiltcli.data.arrays import Dataset, Labels, Part
from tiltcli.data.fetch import Published, cache_folder, fetched, problem_with
from tiltcli.data.splitting import split
from tiltcli.errors import UserError, listing
from tiltcli.grid.paths import CIFAR10_BATCHES, CIFAR10_FOLDER, CIFAR10_LABELS, cifar10_place

PUBLISHED = Published(
    "CIFAR-10",
    "cifar-10-binary.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    170_052_171,
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)
RECORDS = 10_000
CLASSES = 10
LARGEST_MEMBER = 64 << 20  # bytes; a batch has less than half of it
SHARES = (0.9, 0.1, 0.0)
_PICTURE = (3, 32, 32)
_RECORD = 1 + 3 * 32 * 32


def cifar10_dataset(
    path: Path | None,
    seed: int,
    *,
    published: Published = PUBLISHED,
    records: int = RECORDS,
    cache: Path | None = None,
) -> Dataset:
    """Return CIFAR-10: 45 000 pictures to train on, 5 000 to validate, and the 10 000 that judge.

    The training batches are split at random, by `seed`, with every class in proportion. Pictures
    are uint8 (samples, 3, 32, 32). Without the path of an archive, which must be the published one,
    or a folder, the archive is in the cache, and fetched if need be.
    """
    if path is None:
        path = fetched(published, cache or cache_folder())
    train, test, labels = read_cifar10(path, published, records)
    kept, val, _ = split(train.X, train.y, SHARES, seed, labels, str(path))
    return Dataset(kept, val, test, CLASSES, labels)


def read_cifar10(
    path: Path, published: Published = PUBLISHED, records: int = RECORDS
) -> tuple[Part, Part, tuple[str, ...]]:
    """Return training and test pictures, uint8 (n, 3, 32, 32), and names of the classes."""
    try:
        place = cifar10_place(path)
        if place.is_dir():
            return _assembled(place, _files(place), records)
        if problem := problem_with(place, published):
            raise UserError(
                f"{place}: {problem}; needed: {published.described}. Other pictures in the same "
                "format are read from a folder of the unpacked files"
            )
        return _assembled(place, _members(place), records)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None


Contents = Iterator[tuple[str, int, "bytes | None"]]
"""Name, size and content of a file; None instead of the content where it is not to be read."""

_MOST_BYTES = dict.fromkeys(CIFAR10_BATCHES, RECORDS * _RECORD) | {CIFAR10_LABELS: 1 << 12}


def _files(folder: Path) -> Contents:
    for name, most in _MOST_BYTES.items():
        path = folder / name
        if path.is_file():
            size = path.stat().st_size
            yield name, size, path.read_bytes() if size <= most else None


def _members(archive: Path) -> Contents:
    """Files of the archive by their exact names, one after the other, in memory."""
    wanted = {f"{CIFAR10_FOLDER}/{name}": name for name in _MOST_BYTES}
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                if member.size > LARGEST_MEMBER:  # it would be read through, however long
                    raise UserError(
                        f"{archive}: a damaged archive: a file of {member.size:,} bytes"
                    )
                name = wanted.get(member.name)
                if name is None or not member.isreg():
                    continue
                content = tar.extractfile(member) if member.size <= _MOST_BYTES[name] else None
                yield name, member.size, None if content is None else content.read()
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise UserError(f"{archive}: a damaged archive: {error}") from None


def _assembled(place: Path, contents: Contents, records: int) -> tuple[Part, Part, tuple[str, ...]]:
    pictures = np.zeros((len(CIFAR10_BATCHES), records, *_PICTURE), dtype=np.uint8)
    classes: Labels = np.zeros((len(CIFAR10_BATCHES), records), dtype=np.int64)
    labels: tuple[str, ...] = ()
    number = {name: batch for batch, name in enumerate(CIFAR10_BATCHES)}
    faults: list[str] = []
    seen: set[str] = set()
    for name, size, content in contents:
        seen.add(name)
        if name == CIFAR10_LABELS:
            labels, fault = _labels(content)
        else:
            batch = number[name]
            fault = _fill(content, size, records, pictures[batch], classes[batch])
        if fault:
            faults.append(f"{place}: {name}: {fault}")
    missing = [name for name in _MOST_BYTES if name not in seen]
    if missing:
        faults.append(f"{place}: lacks {listing(missing)}")
    if faults:
        raise UserError(*faults)
    flat, test = pictures[:-1].reshape(-1, *_PICTURE), pictures[-1]
    return Part(flat, classes[:-1].reshape(-1)), Part(test, classes[-1]), labels


def _fill(
    content: bytes | None, size: int, records: int, pictures: np.ndarray, classes: Labels
) -> str | None:
    if content is None or size != records * _RECORD or len(content) != size:
        what = "truncated: " if size < records * _RECORD else ""
        return (
            f"{what}{size:,} bytes; allowed: exactly {records * _RECORD:,} "
            f"({records:,} records of {_RECORD} bytes)"
        )
    rows = np.frombuffer(content, dtype=np.uint8).reshape(records, _RECORD)
    if rows[:, 0].max(initial=0) >= CLASSES:
        bad = int(np.argmax(rows[:, 0] >= CLASSES))
        return f"record {bad + 1} has the label {rows[bad, 0]}; allowed: 0 to {CLASSES - 1}"
    classes[:] = rows[:, 0]
    pictures[:] = rows[:, 1:].reshape(records, *_PICTURE)
    return None


def _labels(content: bytes | None) -> tuple[tuple[str, ...], str | None]:
    text = "" if content is None else content.decode("ascii", "replace")
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    good = len(set(names)) == CLASSES == len(names) and all(name.isprintable() for name in names)
    fault = f"holds {len(names)} names; allowed: {CLASSES} names of classes, one a line"
    return (names, None) if good else ((), fault)
