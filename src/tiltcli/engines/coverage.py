"""Which jobs the fused kernel trains; apart from it, so that asking loads no numba."""

from __future__ import annotations

import json
from collections.abc import Collection

from tiltcli.grid import Job

ANY: Collection[object] | None = None

TAKES: dict[str, Collection[object] | None] = {
    "model.kind": ("mlp",),
    "model.width": ANY,
    "model.depth": ANY,
    "model.init_file": ANY,
    "loss.kind": ("static", "dynamical"),
    "loss.base": ("cross_entropy", "mse"),
    "loss.amplitude": ANY,
    "loss.period": ANY,
    "loss.rest": ANY,
    "loss.settle": ANY,
    "loss.shape": ANY,
    "loss.order": ANY,
    "loss.groups": ANY,
    "loss.timing": ANY,
    "loss.half_life": ANY,
    "train.epochs": ANY,
    "train.lr": ANY,
    "train.lr_schedule": ANY,
    "train.batch_size": ANY,
    "train.optimizer": ("sgd", "adam", "adamw"),
    "train.momentum": ANY,
    "train.nesterov": ANY,
    "train.weight_decay": ANY,
    "train.dtype": ("float32", "float64"),
    "train.seed": ANY,
    "train.log_every": ANY,
}
"""Settings of a network, its loss and its training, and their values that the kernel takes. A
setting that is not here sends a job to torch; data of any kind are welcome."""


def uncovered(job: Job) -> str | None:
    """Why this engine cannot train a job; None if it can."""
    for key, value in job.settings.items():
        if key.startswith("data.") or value is None or key == "model.init_digest":
            continue
        taken = TAKES.get(key, ())
        if taken is not None and value not in taken:
            return f"{key} = {json.dumps(value)}"
    return None
