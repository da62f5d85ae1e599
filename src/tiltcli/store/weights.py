"""A trained network as a run keeps it, `weights/<job>.safetensors`; and checkpoints on the way.

Tensors by the network's own names, in the dtype of the training. What else it takes to use them
stands in the file's metadata, as JSON: the settings, how inputs are standardised, how a table
becomes inputs.

A checkpoint is removed only after its job's row is on disk: whatever moment a run is killed at, a
long job has either its result or its last checkpoint. Failed jobs keep theirs for --retry-failed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tiltcli.errors import UserError
from tiltcli.store.files import write_whole

FORMAT = "tiltcli weights 1"
METADATA = "tiltcli.json"
"""Name of what stands beside the weights: in .safetensors and ONNX an entry of the metadata, in
.pt2 an extra file."""


@dataclass(frozen=True)
class Facts:
    """What a network's weights do not say."""

    job: str  # id of the job
    epoch: int  # that they are of
    settings: dict[str, Any]  # of the job, as the columns of the jobs table have them
    labels: list[str]  # names of the classes, in the order of the logits
    sample_shape: list[int]  # of an input, as the network takes it
    # subtracted from an input, nested lists that broadcast over it; None: nothing is
    mean: list[Any] | None
    spread: list[Any] | None  # it is divided by that then
    # how a table's columns become inputs, see `tiltcli.data.encoding`; None for arrays.
    encoding: list[dict[str, Any]] | None

    def page(self) -> str:
        """Return all of it as JSON."""
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True)


def weights_path(run: Path, job: str) -> Path:
    """File that a job's weights have, whether or not it is there."""
    return run / "weights" / f"{job}.safetensors"


def write_weights(path: Path, tensors: Mapping[str, npt.NDArray[Any]], facts: Facts) -> None:
    """Write weights; propagates `Unwritable` if the disk is full or takes nothing."""
    from safetensors.numpy import save

    arrays = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    put(path, save(arrays, {METADATA: facts.page()}))


def put(path: Path, content: bytes) -> None:
    """Write a file of weights whole; propagates `Unwritable` if the disk takes no more."""

    def write(to: Path) -> None:
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(content)

    write_whole(path, write)


def read_weights(path: Path) -> tuple[dict[str, npt.NDArray[Any]], Facts]:
    """Return the tensors of a file, and what is said of them."""
    import safetensors

    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            said = json.loads((file.metadata() or {}).get(METADATA, "{}"))
            if said.pop("format", None) != FORMAT:
                raise TypeError(f"not {FORMAT}")
            facts = Facts(**said)
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
    except (OSError, ValueError, TypeError, safetensors.SafetensorError) as error:
        why = str(error)[:120]
        raise UserError(
            f"{path}: cannot be read: {why}; without it the job is trained again"
        ) from None


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
