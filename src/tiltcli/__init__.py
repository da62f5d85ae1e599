"""Sweeps with dynamical loss functions: train, compare and draw.

Everything named in `__all__` is public. Heavy libraries load only when something needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tiltcli.api import compare, sweep
    from tiltcli.errors import UserError
    from tiltcli.evaluation.comparison import Comparison
    from tiltcli.losses import DynamicalCrossEntropy, DynamicalMSE
    from tiltcli.schedule import Schedule, gamma
    from tiltcli.store.read import Tables, read

__all__ = [
    "Comparison",
    "DynamicalCrossEntropy",
    "DynamicalMSE",
    "Schedule",
    "Tables",
    "UserError",
    "compare",
    "gamma",
    "read",
    "sweep",
]

_HOMES = {
    "Comparison": "tiltcli.evaluation.comparison",
    "DynamicalCrossEntropy": "tiltcli.losses",
    "DynamicalMSE": "tiltcli.losses",
    "Schedule": "tiltcli.schedule",
    "Tables": "tiltcli.store.read",
    "UserError": "tiltcli.errors",
    "compare": "tiltcli.api",
    "gamma": "tiltcli.schedule",
    "read": "tiltcli.store.read",
    "sweep": "tiltcli.api",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its home when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib
    import sys

    value = getattr(importlib.import_module(_HOMES[name]), name)
    # A module of the same name, imported meanwhile, must not hide the function.
    setattr(sys.modules[__name__], name, value)
    return value


def __dir__() -> list[str]:
    """Public names."""
    return sorted([*__all__, "__version__"])
