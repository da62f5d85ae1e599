"""Mending a run: what killed writers left is removed, what cannot be made out is set aside."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pyarrow.parquet as pq

from tiltcli.store import parts
from tiltcli.store.parquet import Damaged, patiently

TABLES = ("jobs", "metrics", "recall", "probes")
"""Folders of a run's parts; jobs first: they make the others count."""

READ_WHOLE_BYTES = 1 << 30
"""A run up to this size is read whole when it is opened; of a larger one only the files' ends."""


def remove_litter(run: Path, owner: str | None = None) -> list[str]:
    """Remove unfinished files, and parts that do not count, of one writer (None: of all)."""
    kept = set(parts.live(run))
    removed = []
    for folder in (run, *(run / table for table in TABLES)):
        if not folder.is_dir():
            continue
        for path in sorted(folder.iterdir()):
            stray = path.name.startswith(".") and path.name.endswith(".tmp")
            dead = folder != run and parts.parse(path.name) is not None and path.name not in kept
            ours = owner is None or path.name.removeprefix(".").startswith(f"{owner}.")
            if ours and (stray or dead) and path.is_file():
                path.unlink(missing_ok=True)
                removed.append(f"{folder.name}/{path.name}")
    return removed


def set_aside_damaged(run: Path, *, whole: bool = True) -> list[str]:
    """Return a sentence on each part that cannot be made out, set aside: its jobs will run again.

    Files are read whole (or, where there is very much, their ends). Propagates `UserError` if the
    system refuses to read a file: that says nothing about the file.
    """
    live = parts.live(run)
    found = (parts.signature(run / table / part) for part in live for table in TABLES[:3])
    whole = whole and sum(one[1] for one in found if one) <= READ_WHOLE_BYTES
    notes = []
    for part in live:
        for table in TABLES:
            path = run / table / part
            if table in TABLES[2:] and not path.exists():
                continue
            if (reason := _fault(path, whole=whole)) is None:
                continue
            lost = TABLES if table != "probes" else ("probes",)
            for name in lost:
                path = run / name / part
                with contextlib.suppress(FileNotFoundError):  # another shard set it aside too
                    os.replace(path, path.with_suffix(".damaged"))
            then = "its jobs run again" if table != "probes" else "tiltcli probe makes them again"
            notes.append(f"set aside {table}/{part}, which cannot be read ({reason}); {then}")
            break
    return notes


def _fault(path: Path, *, whole: bool) -> str | None:
    def read() -> None:
        with pq.ParquetFile(path) as file:
            if whole:
                for _ in file.iter_batches(1 << 18):
                    pass

    try:
        patiently(path, read)
    except FileNotFoundError:
        return "it is missing"
    except Damaged as error:
        return error.reason
    return None
