"""Fetching a published file into the cache: whole and verified, or not at all."""

from __future__ import annotations

import errno
import hashlib
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tiltcli.errors import UserError, plain

WAIT_SECONDS = 3600.0  # for another process that is fetching the same file
TIMEOUT_SECONDS = 30.0  # without a byte from the server


@dataclass(frozen=True)
class Published:
    """A file as its publisher describes it."""

    title: str  # what it is, for messages
    filename: str  # its name
    url: str  # where it is published
    size: int  # bytes
    sha256: str  # its SHA-256, hexadecimal
    folder: str = ""  # folder of the cache where it is kept, for one whose name others have too
    otherwise: str = ""  # what else gives the user the file, for messages

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
    """Return why a file is not the published one, or None if it is, byte for byte."""
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

    Raises:
        UserError: if it cannot be fetched or stored, saying where to put it by hand.

    """
    folder /= published.folder
    path = folder / published.filename
    try:
        if path.exists() and problem_with(path, published) is None:
            return path
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    import filelock
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")  # the report says it
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / ".fetching.lock", timeout=WAIT_SECONDS):
            for stale in folder.glob("tmp*"):
                stale.unlink(missing_ok=True)  # of a killed process: the lock is ours
            pooch.retrieve(
                published.url,
                f"sha256:{published.sha256}",
                published.filename,
                folder,
                downloader=_Downloader(published, report or _on_stderr(published)),
            )
            path.chmod(0o644)  # as any file: pooch's temporary ones are the owner's alone
    except filelock.Timeout:
        raise UserError(
            f"{path}: another process has been fetching into this folder for an hour; end that "
            f"one, or {_by_hand(published, folder)}"
        ) from None
    except requests.RequestException as error:
        raise UserError(
            f"{published.title}: not on this machine, and it cannot be fetched from "
            f"{published.url} ({_reason(error)}); {_by_hand(published, folder)}"
        ) from None
    except ValueError:
        raise UserError(
            f"{published.title}: what {published.url} sent is not the published file (its SHA-256 "
            f"is another); nothing was kept; {_by_hand(published, folder)}"
        ) from None
    except OSError as error:
        raise UserError(_unstorable(published, folder, error)) from None
    return path


class _Downloader:
    """Downloads for pooch: reports how far it is, and takes no more than the published size."""

    def __init__(self, published: Published, report: Report) -> None:
        self._published = published
        self._report = report

    def __call__(self, url: str, to: str, _pooch: object) -> None:
        """Download to a file."""
        import pooch

        size = self._published.size
        free = shutil.disk_usage(Path(to).parent).free
        if free < size:
            raise UserError(
                f"{Path(to).with_name(self._published.filename)}: no room for it: {free:,} bytes "
                f"are free, {size:,} are needed"
            )
        self._written = 0
        with open(to, "wb") as self._file:  # noqa: PTH123 - pooch names it as a text
            pooch.HTTPDownloader(chunk_size=1 << 16, timeout=TIMEOUT_SECONDS)(url, self, None)
        if self._written < size:
            raise UserError(
                f"{self._published.title}: the download broke off at {self._written:,} of "
                f"{size:,} bytes; run the same command again, or "
                + _by_hand(self._published, Path(to).parent)
            )

    def write(self, chunk: bytes) -> None:
        """Store a chunk."""
        self._written += len(chunk)
        if self._written > self._published.size:
            raise UserError(
                f"{self._published.title}: {self._published.url} sends more than the "
                f"{self._published.size:,} bytes of the published file; nothing was kept"
            )
        self._file.write(chunk)
        self._report(self._written, self._published.size)

    def flush(self) -> None:
        """Nothing to do: the file is flushed when it is closed."""


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
        'file: [data] path = "…"' + (published.otherwise and f", or {published.otherwise}")
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
