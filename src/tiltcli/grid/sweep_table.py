"""[sweep]: axes that advance together, and what tells methods apart."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

from tiltcli.errors import with_suggestion
from tiltcli.grid.bounds import Report, refuse_unknown
from tiltcli.grid.settings import SETTINGS, file_keys, setting_key


def read_ties(table: Any, block: str, fault: Report) -> list[list[str]]:
    """Keys that [sweep] of the file or of a block ties."""
    if not isinstance(table, dict):
        fault("sweep", "must be a table, [sweep]", block)
        return []
    refuse_unknown(table, ["zip"] if block else ["zip", "methods"], fault, block, "sweep.")
    ties = table.get("zip", [])
    if not isinstance(ties, list) or not all(
        isinstance(tie, list) and len(tie) > 1 and all(isinstance(k, str) for k in tie)
        for tie in ties
    ):
        fault("sweep.zip", 'must be lists of keys, as [["model.width", "train.lr"]]', block)
        return []
    return [[setting_key(key) for key in tie] for tie in ties]


def read_methods(table: Any, fault: Report) -> tuple[str, ...]:
    """Settings that [sweep] says tell methods apart."""
    given = table.get("methods", []) if isinstance(table, dict) else []
    if not isinstance(given, list) or not all(isinstance(key, str) for key in given):
        fault("sweep.methods", 'must be a list of settings, as ["loss.kind"]', "")
        return ()
    for key in dict.fromkeys(given):
        if key not in SETTINGS:
            said = with_suggestion(f"names {key}, which is unknown", key, SETTINGS)
            fault("sweep.methods", said, "")
    return tuple(given)


def fitting_ties(
    values: Mapping[str, Sequence[Any]],
    ties: Sequence[Sequence[str]],
    block: str,
    overridden: Container[str],
    fault: Report,
) -> list[list[str]]:
    """Return the ties whose axes are there, each once, and equally long.

    A key that `--set` fixed (`overridden`) is tied to nothing.
    """
    good = []
    seen: set[str] = set()
    for tie in ties:
        problems = []
        for key in tie:
            if key not in SETTINGS:
                said = f"names {key}, which is unknown"
                problems.append(with_suggestion(said, key, file_keys()))
            elif key not in values:
                problems.append(f"names {key}, which the file does not set")
            elif key in seen:
                problems.append(f"names {key} twice")
            seen.add(key)
        for problem in problems:
            fault("sweep.zip", problem, block)
        if problems:
            continue
        left = [key for key in tie if not (key in overridden and len(values[key]) == 1)]
        lengths = {key: len(values[key]) for key in left}
        if len(set(lengths.values())) > 1 and all(lengths.values()):
            shown = ", ".join(f"{key} has {n}" for key, n in lengths.items())
            fault("sweep.zip", f"ties axes of different lengths: {shown}", block)
            continue
        good.append(left)
    return good
