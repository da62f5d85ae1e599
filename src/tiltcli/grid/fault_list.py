"""The faults of a grid file, each with its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tiltcli.errors import Fault, UserError
from tiltcli.grid.bounds import MOST_FAULTS

Report = Callable[[str, str, str], None]
"""Takes a fault: its key, what is wrong, and what the keys of its block begin with."""


class FaultList:
    """Collects every fault before the reading is given up.

    Args:
        lines: line of each key, from `key_lines`.
        source: the file, for messages.

    Attributes:
        faults: those found.
        overrides: settings given by `--set`.

    """

    def __init__(self, lines: Mapping[str, int], source: str) -> None:
        self.faults: list[Fault] = []
        self.overrides: dict[str, Any] = {}
        self._lines = lines
        self._source = source

    def fault(self, key: str, message: str, block: str = "") -> None:
        """Note a fault at a key: in its block, or where the base tables set it."""
        place: dict[str, Any] = {"source": self._source or None}
        if key in self.overrides:
            place = {"source": "--set"}
        else:
            table = key.rpartition(".")[0]
            for name in (block + key, key, block + table, table, block.rstrip(".")):
                if name in self._lines:
                    place["line"] = self._lines[name]
                    break
        known = Fault(message, key=block + key if block else key, **place)
        if known not in self.faults:
            self.faults.append(known)
        if len(self.faults) >= MOST_FAULTS:
            raise UserError(*self.faults, f"only the first {MOST_FAULTS} faults are shown")
