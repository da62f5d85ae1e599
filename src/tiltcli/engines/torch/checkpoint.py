"""Checkpoints of long jobs: all that a training needs to go on as if it had never stopped.

One safetensors file per job, only the last, written whole. It holds the parameters, the optimiser's
own tensors, the metrics so far and how far the training was. The order of the samples needs no
generator's state: it depends on the seed and the epoch alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltcli.engines.base import Block

if TYPE_CHECKING:
    from torch import Tensor

    from tiltcli.engines.torch.state import Training

FORMAT = "tiltcli checkpoint 2"
_ROW = tuple(field.name for field in fields(Block) if field.name not in ("updates", "recall"))
_WHOLE = ("epoch", "step")


@dataclass(frozen=True)
class Resumed:
    """What a checkpoint tells besides the state of the training."""

    metrics: Block  # rows so far, as one block; its updates are those made so far
    seconds: float  # time that they took


class Checkpoint:
    """The checkpoint file of one job, saved every so many seconds; without a path there is none.

    `unsaved` says why the last save failed, else it is empty.
    """

    def __init__(self, path: Path | None, job: str, every: float) -> None:
        self.path = path
        self.job = job
        self.every = every
        self.unsaved = ""
        self._started = self._saved = time.monotonic()
        self._seconds_before = 0.0

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return self.path is not None and time.monotonic() - self._saved >= self.every

    def save(self, training: Training, metrics: Sequence[Block]) -> None:
        """Save a training between two updates; only metrics of states that are left behind count.

        A save that fails for want of room or permission is left out, and `unsaved` says why: the
        training goes on, and the checkpoint before it stays.
        """
        if self.path is None:
            return
        import safetensors
        from safetensors.torch import save

        tensors = {
            name: value.detach().cpu().contiguous() for name, value in _state(training).items()
        }
        tensors["metrics"] = _rows(metrics, training.step)
        facts = {
            "format": FORMAT,
            "job": self.job,
            "epoch": str(training.epoch),
            "batch": str(training.batch),
            "seconds": repr(self._seconds_before + time.monotonic() - self._started),
        }
        facts["digest"] = _digest(tensors, facts)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(save(tensors, facts))
            os.replace(temporary, self.path)
            self.unsaved = ""
        except (OSError, safetensors.SafetensorError) as error:
            self.unsaved = str(getattr(error, "strerror", None) or error)
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        self._saved = time.monotonic()

    def restore(self, training: Training) -> Resumed | None:
        """Return what a new training, brought to where it is, resumes; None if no checkpoint fits.

        A file that is damaged, or is another job's, is set aside as `<job>.damaged`.
        """
        if self.path is None:
            return None
        for stray in self.path.parent.glob(f".{self.path.name}.*.tmp"):
            with contextlib.suppress(OSError):
                stray.unlink()  # of a save that was killed
        if not self.path.exists():
            return None
        try:
            resumed = self._read(self.path, training)
        except _Unfit:
            with contextlib.suppress(OSError):
                os.replace(self.path, self.path.with_suffix(".damaged"))
            return None
        self._seconds_before = resumed.seconds if resumed else 0.0
        return resumed

    def _read(self, path: Path, training: Training) -> Resumed | None:
        import safetensors

        try:
            with safetensors.safe_open(path, framework="pt") as file:
                facts: dict[str, str] = dict(file.metadata() or {})
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            digest = facts.pop("digest")
            if facts["format"] != FORMAT or facts["job"] != self.job:
                raise _Unfit("another job's")
            if digest != _digest(tensors, facts):
                raise _Unfit("changed since it was written")
            epoch, batch = int(facts["epoch"]), int(facts["batch"])
            seconds, rows = float(facts["seconds"]), tensors.pop("metrics").numpy()
            if not (0 <= epoch <= training.epochs and 0 <= batch < training.per_epoch):
                raise _Unfit("beyond the end of the training")
            recalls = bool(training.job.get("train.recall") and len(rows))
            if recalls and rows.shape[1] == len(_ROW):
                return None  # of a training that was not asked for them: begun anew
            _check(tensors, training)
        except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
            raise _Unfit(str(error)) from error
        _put(tensors, training)
        training.epoch, training.batch = epoch, batch
        columns = {
            name: rows[:, i].astype(np.int64 if name in _WHOLE else np.float64)
            for i, name in enumerate(_ROW)
        }
        recall = rows[:, len(_ROW) :].reshape(len(rows), 2, -1) if recalls else None
        return Resumed(Block(**columns, updates=training.step, recall=recall), seconds)


class _Unfit(Exception):
    """A checkpoint that cannot be gone on from."""


def _state(training: Training) -> dict[str, Tensor]:
    """Tensors `network.NAME`, `optimizer.NUMBER.NAME`; what is drawn on, `random.NUMBER`."""
    found = {f"network.{name}": value for name, value in _tensors(training).items()}
    if training.dice is not None:
        found |= {f"random.{place}": state for place, state in enumerate(training.dice.state)}
    for number, own in training.optimizer.state_dict()["state"].items():
        for name, value in own.items():
            if value is not None:
                found[f"optimizer.{number}.{name}"] = value
    return found


def _tensors(training: Training) -> dict[str, Tensor]:
    from tiltcli.networks.models import tensors_of

    trained, others = tensors_of(training.network)
    return {**trained, **others}


def _check(tensors: Mapping[str, Tensor], training: Training) -> None:
    own = _tensors(training)
    wanted = {f"network.{name}" for name in own}
    if {name for name in tensors if name.startswith("network.")} != wanted:
        raise _Unfit("of another network")
    for name, value in own.items():
        other = tensors[f"network.{name}"]
        if other.shape != value.shape or other.dtype != value.dtype:
            raise _Unfit("of another network")
    drawn = {
        f"random.{place}" for place in range(len(training.dice.state if training.dice else ()))
    }
    if {name for name in tensors if name.startswith("random.")} != drawn:
        raise _Unfit("of another device")
    for name in tensors.keys() - wanted - drawn:
        kind, number, _ = name.split(".")
        if kind != "optimizer" or not 0 <= int(number) < len(training.trained):
            raise _Unfit("of another optimiser")


def _put(tensors: Mapping[str, Tensor], training: Training) -> None:
    import torch

    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".")
            like = training.trained[int(number)]
            if value.shape == like.shape:
                # In the parameter's own order of memory, as the optimiser would have made it.
                value = torch.empty_like(like).copy_(value)
            state.setdefault(int(number), {})[key] = value
    groups: Any = training.optimizer.state_dict()["param_groups"]
    training.optimizer.load_state_dict({"state": state, "param_groups": groups})
    with torch.no_grad():
        for name, tensor in _tensors(training).items():
            tensor.copy_(tensors[f"network.{name}"])
    if training.dice is not None:
        training.dice.state = [tensors[f"random.{n}"] for n in range(len(training.dice.state))]


def _rows(metrics: Sequence[Block], step: int) -> Tensor:
    """Rows of the states before `step`, float64 (rows, columns); the present one comes again."""
    import torch

    columns = [
        np.concatenate([getattr(block, name) for block in metrics] or [np.empty(0)])
        for name in _ROW
    ]
    rows = np.stack([column.astype(np.float64) for column in columns], axis=1)
    recalls = [b.recall.reshape(len(b.epoch), -1) for b in metrics if b.recall is not None]
    if recalls:
        rows = np.hstack([rows, np.concatenate(recalls)])
    return torch.from_numpy(np.ascontiguousarray(rows[rows[:, _ROW.index("step")] < step]))


def _digest(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> str:
    """SHA-256 of everything in the file."""
    digest = hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(np.ascontiguousarray(value.numpy()).tobytes())
    return digest.hexdigest()
