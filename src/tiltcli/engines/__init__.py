"""Engines: what trains a job. Chosen by name; heavy libraries load only when one is used."""

from __future__ import annotations

from tiltcli.engines.base import Block, Context, Ending, Engine, Interrupted, Snapshot, Trail
from tiltcli.errors import UserError, with_suggestion
from tiltcli.grid import Job

NAMES = ("auto", "fused", "torch")


def choose_engine(name: str, job: Job) -> str:
    """Return the engine that trains a job: "fused" wherever it can, unless one is asked for.

    Raises:
        UserError: for an unknown engine, or a job that the engine asked for cannot train.

    """
    if name not in NAMES:
        raise UserError(with_suggestion(f"--engine: got {name}", name, NAMES))
    if name == "torch":
        return "torch"
    from tiltcli.engines.coverage import uncovered

    reason = uncovered(job)
    if reason is None:
        return "fused"
    if name == "fused":
        raise UserError(f"--engine fused cannot train {reason}; use --engine auto")
    return "torch"


def load_engine(name: str) -> Engine:
    """Load the engine's train function."""
    if name == "fused":
        from tiltcli.engines.mlp import fused

        return fused.train
    from tiltcli.engines.torch import loop

    return loop.train


__all__ = [
    "NAMES",
    "Block",
    "Context",
    "Ending",
    "Engine",
    "Interrupted",
    "Snapshot",
    "Trail",
    "choose_engine",
    "load_engine",
]
