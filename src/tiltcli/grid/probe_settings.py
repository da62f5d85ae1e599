"""What to probe along a training: the [probe] table of a grid file.

Probing does not change a training, so none of this is part of a job's identity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiltcli.errors import QUANTITY_COLUMNS, Fault, UserError, listing, with_suggestion
from tiltcli.grid.setting_types import MOST_WHOLE
from tiltcli.grid.settings import SETTINGS
from tiltcli.grid.syntax import Report, refuse_unknown

QUANTITIES = tuple(QUANTITY_COLUMNS)
DEFAULT = QUANTITIES[:2]
"""What is measured where nothing is said."""

KEYS = ("every", "quantities", "ntk_points")

_COUNT = SETTINGS["train.log_every"]  # a whole number ≥ 1


@dataclass(frozen=True)
class ProbeSettings:
    """What is measured of a job's curvature, and when."""

    quantities: tuple[str, ...] = DEFAULT  # of QUANTITIES, in their order there
    every: int | None = None  # epochs between probes, counted from epoch 0; None: only at `epochs`
    # the tangent kernel is taken on the first so many training points; None: on all where they are
    # few, else on a seeded balanced sample
    ntk_points: int | None = None
    epochs: tuple[int, ...] = ()  # single epochs to probe, rising; only where `every` is None

    def due(self, last: int) -> list[int]:
        """Epochs from 0 to `last` that are probed: multiples of `every`, or those listed."""
        if self.every is not None:
            return list(range(0, last + 1, self.every))
        return [epoch for epoch in self.epochs if epoch <= last]


def read_probe(table: Any, fault: Report) -> ProbeSettings | None:
    """Return the settings of a [probe] table; None without one, or after a fault (key, message)."""
    if table is None:
        return None
    faults: list[str] = []

    def wrong(key: str, message: str, block: str = "") -> None:
        faults.append(key)
        fault(key, message, block)

    if not isinstance(table, Mapping):
        wrong("probe", "must be a table, [probe]")
        return None
    refuse_unknown(table, KEYS, wrong, table="probe.")
    every = _count(table.get("every"), "probe.every", "epochs", wrong)
    if "every" not in table:
        wrong("probe.every", f"missing; allowed: {_allowed('epochs')}")
    points = _count(table.get("ntk_points"), "probe.ntk_points", "training points", wrong)
    given = table.get("quantities", list(DEFAULT))
    quantities = _quantities(given, "probe.quantities", wrong)
    if points is not None and "ntk" not in quantities and not faults:
        wrong("probe.ntk_points", 'has no effect without "ntk" in probe.quantities')
    return None if faults else ProbeSettings(quantities, every, points)


def _quantities(given: Any, key: str, wrong: Callable[[str, str], None]) -> tuple[str, ...]:
    """Check a list of quantities; returns those known, in their standard order."""
    allowed = f"allowed: a list of {', '.join(QUANTITIES)}"
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, list) or not given:
        wrong(key, f"got {given!r}; {allowed}")
        return ()
    for one in given:
        if one not in QUANTITIES:
            wrong(key, with_suggestion(f"unknown quantity {one!r}", str(one), QUANTITIES))
    return tuple(quantity for quantity in QUANTITIES if quantity in given)


def _allowed(unit: str) -> str:
    return f"a whole number of {unit} ≥ 1, at most {MOST_WHOLE}"


def _count(value: Any, key: str, unit: str, wrong: Callable[[str, str], None]) -> int | None:
    if value is None:
        return None
    try:
        return int(_COUNT.validate(value))
    except ValueError:
        wrong(key, f"got {value!r}; allowed: {_allowed(unit)}")
        return None


def asked_probe(
    every: int | None,
    epochs: Sequence[int] | None,
    quantities: Sequence[str] | None,
    ntk_points: int | None,
    base: ProbeSettings | None,
) -> ProbeSettings:
    """Return settings of `tiltcli probe`: what its options say, else what the run's grid says."""
    faults: list[Fault] = []

    def wrong(key: str, message: str) -> None:
        faults.append(Fault(message, key=key))

    _count(every, "--every", "epochs", wrong)
    _count(ntk_points, "--ntk-points", "training points", wrong)
    if every is not None and epochs is not None:
        wrong("--epochs", "stands instead of --every: give one of them")
    if every is None and epochs is None:
        every = base.every if base else None
        if every is None:
            wrong("--every", "missing, as the run's grid has no [probe]; or give --epochs A,B,C")
    if epochs is not None and (not epochs or min(epochs) < 0):
        wrong("--epochs", f"got {listing(epochs)}; allowed: whole numbers ≥ 0, as 0,500,1000")
    chosen = base.quantities if base else DEFAULT
    if quantities is not None:
        chosen = _quantities(list(quantities), "--quantities", wrong)
    if ntk_points is None and base is not None and "ntk" in chosen:
        ntk_points = base.ntk_points
    if ntk_points is not None and "ntk" not in chosen and not faults:
        wrong("--ntk-points", 'has no effect without "ntk" in --quantities')
    if faults:
        raise UserError(*faults)
    return ProbeSettings(chosen, every, ntk_points, tuple(sorted(set(epochs or ()))))
