"""Sweeps with dynamical loss functions: train, compare and draw.

From a grid to a verdict:

    sweep(grid)                 trains every job of a grid (a file, or a dictionary)
    runs()                      lists the runs
    read(run)                   gives a run's tables as pandas frames
    plot(kind, run)             draws a run
    compare(a, b)               compares two runs, or two selections, pair by pair
    confirm(run)                gives the grid that confirms a run's best cells on fresh seeds
    report(run, ...)            writes the report, a page of its own
    load(run, job)              gives a trained network that takes rows as they stand in the data

In a training loop of your own:

    DynamicalCrossEntropy       loss whose class weights oscillate, a torch.nn.Module
    DynamicalMSE                likewise, of the squared error
    gamma(step, ...)            class weights at a step
    Schedule                    their whole definition
    Curvature(model, loss, data)  sharpness, trace, spectral density, tangent kernel

What comes back: Comparison, Summary, Tables; UserError is what is yours to mend.
`help(tiltcli.sweep)` and so on tell more. Heavy libraries load only when something needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tiltcli.api.finished_runs import compare, confirm, load, report, runs
    from tiltcli.api.plotting import plot
    from tiltcli.api.sweeping import sweep
    from tiltcli.curvature.own_loop import Curvature
    from tiltcli.errors import UserError
    from tiltcli.evaluation.comparison import Comparison
    from tiltcli.execution.runner import Summary
    from tiltcli.losses import DynamicalCrossEntropy, DynamicalMSE
    from tiltcli.schedule import Schedule, gamma
    from tiltcli.store.read import Tables, read

_HOMES = {
    "tiltcli.api.finished_runs": ("compare", "confirm", "load", "report", "runs"),
    "tiltcli.api.plotting": ("plot",),
    "tiltcli.api.sweeping": ("sweep",),
    "tiltcli.curvature.own_loop": ("Curvature",),
    "tiltcli.errors": ("UserError",),
    "tiltcli.evaluation.comparison": ("Comparison",),
    "tiltcli.execution.runner": ("Summary",),
    "tiltcli.losses": ("DynamicalCrossEntropy", "DynamicalMSE"),
    "tiltcli.schedule": ("Schedule", "gamma"),
    "tiltcli.store.read": ("Tables", "read"),
}

__all__ = [
    "Comparison",
    "Curvature",
    "DynamicalCrossEntropy",
    "DynamicalMSE",
    "Schedule",
    "Summary",
    "Tables",
    "UserError",
    "compare",
    "confirm",
    "gamma",
    "load",
    "plot",
    "read",
    "report",
    "runs",
    "sweep",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its home when it is first used."""
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib
    import sys

    value = getattr(importlib.import_module(home), name)
    # A module of the same name, imported meanwhile, must not hide the function.
    setattr(sys.modules[__name__], name, value)
    return value


def __dir__() -> list[str]:
    """Public names."""
    return sorted([*__all__, "__version__"])
