"""What a file is, whatever its name or place: its digest."""

from __future__ import annotations

import hashlib
from pathlib import Path


def digest_of(path: Path) -> str:
    """Return the first 16 hexadecimal digits of the file's SHA-256.

    Raises:
        OSError: if it cannot be read.

    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
