"""Where checkpoints of jobs under way lie in a run, and when they go.

A checkpoint is removed only after its job's row is on disk: whatever moment a run is killed at, a
long job has either its result or its last checkpoint. Failed jobs keep theirs for --retry-failed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

FOLDER = "checkpoints"


def checkpoint_path(run: Path, job: str) -> Path:
    """File that a job's checkpoint has, whether or not it is there."""
    return run / FOLDER / f"{job}.safetensors"


def checkpointed(run: Path) -> set[str]:
    """Jobs that have a checkpoint."""
    return {path.stem for path in (run / FOLDER).glob("*.safetensors")}


def remove_checkpoints(run: Path, jobs: Iterable[str]) -> None:
    """Remove what is left of jobs that ended, and the folder once it is empty."""
    if not (run / FOLDER).is_dir():
        return
    for job in jobs:
        path = checkpoint_path(run, job)
        for name in (path, path.with_suffix(".damaged")):
            with contextlib.suppress(OSError):
                name.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (run / FOLDER).rmdir()
