"""Which jobs the fused kernel trains; apart from it, so that asking loads no numba."""

from __future__ import annotations

import json

from tiltcli.grid import SETTINGS, Job
from tiltcli.grid.setting_types import ALL


def uncovered(job: Job) -> str | None:
    """Return why this engine cannot train a job; None if it can.

    Each setting says which of its values the kernel takes. One that says nothing, because the
    kernel knows nothing of it, is refused wherever it is set.
    """
    for setting in SETTINGS.values():
        if setting.fused == ALL:
            continue
        value = job.get(setting.key)
        if value is not None and value not in setting.fused:
            return f"{setting.key} = {json.dumps(value)}"
    return None


def without_derivative(job: Job, engine: str) -> str | None:
    """Return why no derivative of a job's training map is compiled; None if one is."""
    if engine != "fused":
        return f"engine {engine}"
    wanted = {"train.batch_size": "full", "train.optimizer": "sgd"}
    for key, value in wanted.items():
        if job.get(key, value) not in (value, None):
            return f"{key} = {json.dumps(job[key])}; allowed: {json.dumps(value)}"
    return None
