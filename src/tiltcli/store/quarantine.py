"""What killed writers left is removed, and parts that cannot be read are quarantined."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tiltcli.store import parts
from tiltcli.store.parts import Part, parse

TABLES = ("jobs", "metrics")
READ_WHOLE_BYTES = 1 << 30
"""A run up to this size is read whole when it is opened; of a larger one only the files' ends."""


def remove_litter(run: Path, owner: str | None = None) -> list[str]:
    """Remove unfinished files, and files of parts that do not count.

    Args:
        run: its folder.
        owner: beginning of the names of the writers to tidy up after, none of which is alive;
            None for all, where nobody else is writing.

    Returns:
        names of the files removed.

    """
    kept = {part.filename for part in parts.live(run)}
    removed = []
    for folder in (run, run / "jobs", run / "metrics", run / "probes"):
        if not folder.is_dir():
            continue
        for path in sorted(folder.iterdir()):
            stray = path.name.startswith(".") and path.name.endswith(".tmp")
            dead = folder != run and parse(path.name) is not None and path.name not in kept
            ours = owner is None or path.name.removeprefix(".").startswith(owner)
            if ours and (stray or dead) and path.is_file():
                path.unlink(missing_ok=True)
                removed.append(f"{folder.name}/{path.name}")
    return removed


def set_aside_damaged(run: Path, *, whole: bool = True) -> list[str]:
    """Rename the files of parts that cannot be read; their jobs will run again.

    Args:
        run: its folder.
        whole: read the files whole, unless the run is very large; else only their ends.

    Returns:
        a sentence on each.

    """
    live = parts.live(run)
    sizes = sum(
        path.stat().st_size
        for part in live
        for table in TABLES
        if (path := run / table / part.filename).exists()
    )
    whole = whole and sizes <= READ_WHOLE_BYTES
    notes = []
    for part in live:
        for table in TABLES:
            path = run / table / part.filename
            reason = _fault(path, whole=whole)
            if reason is None:
                continue
            if table == "metrics" and not (run / "jobs" / part.filename).exists():
                break  # merged by its writer in the meantime
            _set_aside(run, part)
            notes.append(
                f"set aside {table}/{part.filename}, which cannot be read ({reason[:100]}); "
                "its jobs run again"
            )
            break
        else:
            notes += _set_probes_aside(run / "probes" / part.filename, whole=whole)
    return notes


def _set_probes_aside(path: Path, *, whole: bool) -> list[str]:
    """Not every part has probes, and a job stands without them."""
    if not path.exists() or (reason := _fault(path, whole=whole)) is None:
        return []
    with contextlib.suppress(FileNotFoundError):
        os.replace(path, path.with_suffix(".damaged"))
    return [
        f"set aside probes/{path.name}, which cannot be read ({reason[:100]}); "
        "tiltcli probe makes them again"
    ]


def _fault(path: Path, *, whole: bool) -> str | None:
    try:
        with pq.ParquetFile(path) as file:
            if whole:
                for _ in file.iter_batches(1 << 18):
                    pass
    except (OSError, pa.ArrowException) as error:
        return str(error)
    return None


def _set_aside(run: Path, part: Part) -> None:
    for table in ("jobs", "metrics", "probes"):
        bad = run / table / part.filename
        # Another shard may be setting it aside too.
        with contextlib.suppress(FileNotFoundError):
            os.replace(bad, bad.with_suffix(".damaged"))
