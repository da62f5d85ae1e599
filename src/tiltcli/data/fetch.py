"""Fetching a published file into the cache: whole and verified, or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tiltcli.errors import UserError
from tiltcli.terminal import plain

WAIT_SECONDS = 3600.0  # for another process that is fetching the same file
TIMEOUT_SECONDS = 30.0  # without a byte from the server


@dataclass(frozen=True)
class Published:
    """A file as its publisher describes it.

    Attributes:
        title: what it is, for messages.
        filename: its name.
        url: where it is published.
        size: bytes.
        sha256: its SHA-256, hexadecimal.

    """

    title: str
    filename: str
    url: str
    size: int
    sha256: str

    @property
    def described(self) -> str:
        """Name, size and checksum, for messages."""
        return f"{self.filename} ({self.size:,} bytes, SHA-256 {self.sha256})"


Report = Callable[[int, int], None]
"""Called with the bytes fetched so far and the bytes in all."""


def cache_folder() -> Path:
    """Where fetched files are kept: the platform's cache (XDG_CACHE_HOME, ~/.cache, …)."""
    import pooch

    return Path(pooch.os_cache("tiltcli"))


def problem_with(path: Path, published: Published) -> str | None:
    """Why a file is not the published one, or None if it is, byte for byte.

    Raises:
        OSError: if it cannot be read.

    """
    size = path.stat().st_size
    if size < published.size:
        return f"truncated: {size:,} of {published.size:,} bytes"
    if size > published.size:
        return f"not the published file: {size:,} bytes instead of {published.size:,}"
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != published.sha256:
        return f"damaged or not the published file: its SHA-256 is {found}, not {published.sha256}"
    return None


def fetched(published: Published, folder: Path, report: Report | None = None) -> Path:
    """Return the published file in a cache folder, fetching it if it is not there whole.

    Written under a temporary name, verified, then renamed: whatever happens, the folder holds the
    whole file or none of it.

    Args:
        published: what to fetch.
        folder: cache folder; made if need be.
        report: told how far the download is; default: a line on stderr.

    Raises:
        UserError: if it cannot be fetched or stored, saying where to put it by hand.

    """
    path = folder / published.filename
    with contextlib.suppress(FileNotFoundError):
        try:
            if problem_with(path, published) is None:
                return path
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    import filelock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / f".{published.filename}.lock", timeout=WAIT_SECONDS):
            # Another process may have fetched it meanwhile.
            if not path.is_file() or problem_with(path, published) is not None:
                _fetch(published, path, report or _on_stderr(published))
    except filelock.Timeout:
        raise UserError(
            f"{path}: another process has been fetching it for an hour; end that one, or "
            + _by_hand(published, folder)
        ) from None
    except OSError as error:
        raise UserError(_unstorable(published, folder, error)) from None
    return path


def _fetch(published: Published, path: Path, report: Report) -> None:
    for stale in path.parent.glob(f".{path.name}.*.tmp"):
        stale.unlink(missing_ok=True)  # of a killed process: the lock is ours
    free = shutil.disk_usage(path.parent).free
    if free < published.size:
        raise UserError(
            f"{path}: no room for it: {free:,} bytes are free, {published.size:,} are needed"
        )
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            sink = _Sink(file, published, report)
            _download(published, sink, path.parent)
        if sink.written != published.size:
            raise UserError(
                f"{published.title}: the download broke off at {sink.written:,} of "
                f"{published.size:,} bytes; run the same command again, or "
                + _by_hand(published, path.parent)
            )
        if sink.digest.hexdigest() != published.sha256:
            raise UserError(
                f"{published.title}: what {published.url} sent is not the published file (its "
                f"SHA-256 is {sink.digest.hexdigest()}); nothing was kept; "
                + _by_hand(published, path.parent)
            )
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class _Sink:
    """File that pooch writes to: counts, hashes, and takes no more than the published size."""

    def __init__(self, file: BinaryIO, published: Published, report: Report) -> None:
        self.digest = hashlib.sha256()
        self.written = 0
        self._file = file
        self._published = published
        self._report = report

    def write(self, chunk: bytes) -> None:
        """Store a chunk.

        Raises:
            UserError: if the server sends more than the file has.

        """
        self.written += len(chunk)
        if self.written > self._published.size:
            raise UserError(
                f"{self._published.title}: {self._published.url} sends more than the "
                f"{self._published.size:,} bytes of the published file; nothing was kept"
            )
        self.digest.update(chunk)
        self._file.write(chunk)
        self._report(self.written, self._published.size)

    def flush(self) -> None:
        """Nothing to do: the file is flushed when it is closed."""


def _download(published: Published, sink: _Sink, folder: Path) -> None:
    import pooch
    import requests

    downloader = pooch.HTTPDownloader(chunk_size=1 << 16, timeout=TIMEOUT_SECONDS)
    try:
        downloader(published.url, sink, None)
    except requests.RequestException as error:
        raise UserError(
            f"{published.title}: not on this machine, and it cannot be fetched from "
            f"{published.url} ({_reason(error)}); {_by_hand(published, folder)}"
        ) from None


def _reason(error: Exception) -> str:
    """Innermost cause: the outer ones tell of pools and retries."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answered {response.status_code} {response.reason}".strip()
    text = str(error)
    for sign in ("Caused by ", "Connection broken: "):
        text = text.rpartition(sign)[2]
    return text.strip("()\"' ")[:200] or type(error).__name__


def _by_hand(published: Published, folder: Path) -> str:
    return (
        f"put {published.described} into {folder}, or name the place where it lies in the grid "
        'file: [data] path = "…"'
    )


def _unstorable(published: Published, folder: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"{folder}: the disk is full: {published.title} needs {published.size:,} bytes there; "
            "nothing was kept"
        )
    return (
        f"{folder}: {published.filename} cannot be stored there ({error.strerror or error}); "
        + _by_hand(published, folder)
    )


def _on_stderr(published: Published) -> Report:
    """Progress bar on a terminal; elsewhere a line every tenth."""
    terminal = not plain(sys.stderr)
    shown, last = -1.0, 0.0

    def report(done: int, size: int) -> None:
        nonlocal shown, last
        share, now = done / size, time.monotonic()
        if share < 1 and (share - shown < 0.1 if not terminal else now - last < 0.1):
            return
        shown, last = share, now
        megabytes = f"{done / 1e6:.0f} of {size / 1e6:.0f} MB"
        if terminal:
            bar = "━" * round(40 * share) + "─" * (40 - round(40 * share))
            end = "\n" if share == 1 else ""
            sys.stderr.write(f"\r{published.filename} {bar} {share:4.0%} {megabytes}{end}")
        else:
            sys.stderr.write(f"fetching {published.filename}: {share:.0%}, {megabytes}\n")
        sys.stderr.flush()

    return report
