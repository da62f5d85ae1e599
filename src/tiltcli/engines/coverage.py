"""Which jobs the fused kernel covers; apart from it, so that asking loads no numba."""

from __future__ import annotations

from tiltcli.grid import Job


def uncovered(job: Job) -> str | None:
    """Why this engine cannot train a job; None if it can."""
    if job["model.kind"] != "mlp":
        return f'model.kind = "{job["model.kind"]}"'
    if job["loss.base"] != "cross_entropy":
        return f'loss.base = "{job["loss.base"]}"'
    if job["train.batch_size"] != "full":
        return f"train.batch_size = {job['train.batch_size']}"
    if job["train.optimizer"] != "sgd":
        return f'train.optimizer = "{job["train.optimizer"]}"'
    for key in ("train.momentum", "train.weight_decay"):
        if job[key]:
            return f"{key} = {job[key]}"
    return None
