"""Pictures from published files: CIFAR-10's, and MNIST's format; nothing is extracted or unpickled.

CIFAR-10 (A. Krizhevsky, University of Toronto): five training batches and a test batch of 10 000
records each; a record is a label byte and 3072 bytes, the red, then the green, then the blue plane
of 32 × 32, row by row.

IDX (Y. LeCun's page of MNIST), all numbers big-endian and of 32 bits: pictures have the magic
2051, their number, rows and columns, then a byte a pixel, row by row; labels have the magic 2049
and their number, then a byte each. Fashion-MNIST's files are known by checksum.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from tiltcli.data.arrays import Dataset, Labels, Part, numbered, plain_labels
from tiltcli.data.fetch import Published, cache_folder, fetched, problem_with
from tiltcli.data.limits import check_bytes
from tiltcli.data.preparation import split
from tiltcli.errors import UserError, each, listing
from tiltcli.grid.paths import (
    CIFAR10_BATCHES,
    CIFAR10_FOLDER,
    CIFAR10_LABELS,
    IDX_FILES,
    cifar10_place,
    idx_files,
)

CIFAR10 = Published(
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

Contents = Iterator[tuple[str, int, "bytes | None"]]
"""Name, size and content of a file; None instead of the content where it is not to be read."""

_MOST_BYTES = dict.fromkeys(CIFAR10_BATCHES, RECORDS * _RECORD) | {CIFAR10_LABELS: 1 << 12}
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the files."""

CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
UNPACKED = {
    IDX_FILES[0]: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    IDX_FILES[1]: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    IDX_FILES[2]: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    IDX_FILES[3]: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""SHA-256 of Fashion-MNIST's files, unpacked: Debian's are packed otherwise than the published."""

_PACKED = (
    (26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
    (29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
    (4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
    (5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
)
FASHION_MNIST = tuple(
    Published(
        "Fashion-MNIST",
        f"{name}.gz",
        f"https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/{name}.gz",
        *packed,
        folder="fashion-mnist",
        otherwise="install Debian's package dataset-fashion-mnist",
    )
    for name, packed in zip(IDX_FILES, _PACKED, strict=True)
)
_MAGICS = {2051: "pictures", 2049: "labels"}


def cifar10_dataset(
    path: Path | None,
    seed: int,
    *,
    published: Published = CIFAR10,
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
    path: Path, published: Published = CIFAR10, records: int = RECORDS
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


def fashion_mnist_dataset(path: Path | None, seed: int) -> Dataset:
    """Return Fashion-MNIST, 54 000 / 6 000 / 10 000; without a path Debian's, else fetched."""
    if path is None and (path := debian_folder()) is None:
        places = [fetched(one, cache_folder()) for one in FASHION_MNIST]
        path = places[0].parent
    return idx_dataset(path, seed, UNPACKED, CLOTHES)


def debian_folder() -> Path | None:
    """Return the folder of Debian's package, if it is there with all files."""
    try:
        idx_files(DEBIAN)
    except OSError:
        return None
    return DEBIAN


def idx_dataset(
    folder: Path,
    seed: int,
    digests: Mapping[str, str] | None = None,
    labels: tuple[str, ...] | None = None,
) -> Dataset:
    """Return pictures, uint8 (samples, 1, rows, columns), of four files in MNIST's format.

    A tenth of the training files, drawn at random by `seed` with every class in proportion,
    validates; the files `t10k-…` judge. `digests` are SHA-256 that the unpacked files must have, by
    name; `labels` the names of the classes, by default their numbers.

    Raises:
        UserError: with all that is wrong with the files.

    """
    try:
        files = idx_files(folder)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from None
    wanted = digests or {}
    X, y, X_test, y_test = each(
        lambda one: _content(one[1], list(_MAGICS)[one[0] % 2], wanted.get(IDX_FILES[one[0]])),
        enumerate(files),
    )
    faults = [
        f"{folder}: {len(pictures):,} pictures in {name} and {len(classes):,} labels beside them"
        for name, pictures, classes in ((files[0].name, X, y), (files[2].name, X_test, y_test))
        if len(pictures) != len(classes)
    ]
    if X.shape[1:] != X_test.shape[1:]:
        faults.append(
            f"{folder}: pictures of {X.shape[1:]} to train on and of {X_test.shape[1:]} to judge"
        )
    if faults:
        raise UserError(*faults)
    classes, names = numbered(
        str(folder),
        {"train": plain_labels(y), "test": plain_labels(y_test)},
        {"train": IDX_FILES[1], "test": IDX_FILES[3]},
    )
    labels = labels or names
    train, val, _ = split(X[:, np.newaxis], classes["train"], SHARES, seed, labels, str(folder))
    test = Part(X_test[:, np.newaxis], classes["test"])
    return Dataset(train, val, test, len(labels), labels)


def _content(path: Path, magic: int, digest: str | None) -> npt.NDArray[Any]:
    """Return pictures (n, rows, columns) or labels (n,) of a file, uint8; no more is unpacked."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as file:
            return _unpacked(path, cast(BinaryIO, file), magic, digest)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: truncated or damaged: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None


def _unpacked(path: Path, file: BinaryIO, magic: int, digest: str | None) -> npt.NDArray[Any]:
    dimensions = 3 if magic == 2051 else 1
    header = file.read(4)
    (found,) = struct.unpack(">i", header) if len(header) == 4 else (None,)
    if found != magic:
        what = f", which is that of {_MAGICS[found]}; swapped files?" if found in _MAGICS else ""
        raise UserError(
            f"{path}: begins with the magic number {found}{what or ';'} needed: {magic}, of "
            f"{_MAGICS[magic]}"
        )
    sizes = file.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise UserError(f"{path}: truncated in its header")
    shape = struct.unpack(f">{dimensions}I", sizes)
    count = math.prod(shape)
    said = f"{' × '.join(f'{n:,}' for n in shape)} {_MAGICS[magic]}"
    if not count:
        raise UserError(f"{path}: its header says {said}; allowed: at least one")
    check_bytes(path, count, f"its {said}")
    content = file.read(count)
    fault = ""
    if len(content) < count:
        fault = (
            f"truncated: {len(content):,} bytes follow its header, which says {count:,} ({said})"
        )
    elif file.read(1):
        fault = f"goes on after the {count:,} bytes that its header says ({said})"
    elif digest and hashlib.sha256(header + sizes + content).hexdigest() != digest:
        fault = (
            f"{said}, but not those of Fashion-MNIST: unpacked, their SHA-256 is not {digest}. "
            'Other pictures in this format: [data] kind = "idx"'
        )
    if fault:
        raise UserError(f"{path}: {fault}")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)
