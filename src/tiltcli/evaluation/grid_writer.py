"""Grid files that a run leads to: chosen cells, on further replicates."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiltcli.errors import UserError, listing
from tiltcli.evaluation.cells import REPLICATES
from tiltcli.grid.jobs import Job
from tiltcli.grid.settings import SETTINGS, TABLES, finish, position

FIRST_FRESH_SEED = 100
"""Seeds of a confirmation begin here, or after those of the run it confirms."""

DRAW_STRIDE = {"spiral": 3}
"""Distance between data seeds whose draws have no part in common: a spiral of seed s has its
validation points from seed s + 1 and its test points from s + 2."""


@dataclass(frozen=True)
class Replicates:
    """Seeds that each cell of a grid is trained on."""

    seeds: Sequence[int]  # of initialisation and batch order
    draws: Sequence[int] | None = None  # of the data, one for each seed; None: as the cells have it


def fresh(used: Sequence[Job], count: int, *, draws: bool) -> Replicates:
    """Return replicates that some jobs have not used."""
    seeds = max(FIRST_FRESH_SEED, 1 + max(int(job["train.seed"]) for job in used))
    own = [int(job["data.seed"]) for job in used if job.get("data.seed") is not None]
    chosen = range(seeds, seeds + count)
    if not draws or len(own) < len(used):
        return Replicates(chosen)
    stride = max(DRAW_STRIDE.get(str(job["data.kind"]), 1) for job in used)
    first = max(FIRST_FRESH_SEED, stride + max(own))
    return Replicates(chosen, range(first, first + stride * count, stride))


def grid_text(
    name: str,
    cells: Sequence[Job],
    replicates: Replicates,
    *,
    folder: Path,
    comments: Sequence[str] = (),
    sweep: Mapping[str, Any] | None = None,
) -> str:
    """Return the grid whose cells are given."""
    if not cells:
        raise UserError("there is no cell to write a grid of")
    given = list({repr(one): one for job in cells if (one := _given(job, folder))}.values())
    base, *others = _base_first(given)
    turning: dict[str, Any] = {"train.seeds": _axis(replicates.seeds)}
    table = dict(sweep or {})
    if replicates.draws is not None:
        turning["data.seed"] = _axis(replicates.draws)
        table["zip"] = [["data.seed", "train.seeds"]]
    lines = [*(f"# {line}".rstrip() for line in comments), f'name = "{name}"']
    lines += _tables({**base, **turning})
    if table:
        lines += ["", "[sweep]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    for other in others:
        # What a block does not say is as in the tables above, or the default.
        own = {k: v for k, v in other.items() if base.get(k, SETTINGS[k].default) != v}
        lines += ["", "[[also]]", *(f"{key} = {_toml(value)}" for key, value in own.items())]
    return "\n".join(lines) + "\n"


def _given(job: Job, folder: Path) -> dict[str, Any]:
    """What a grid file says of a cell: every setting that applies and is set, but replicates."""
    usual = {key: value for key, value in job.settings.items() if key != "data.standardize"}
    finish(usual)
    found = {}
    for key, value in job.settings.items():
        if key not in SETTINGS or key in REPLICATES or value is None:
            continue
        if key == "data.standardize" and value == usual.get(key):
            continue  # filled in by the kind of data
        found[key] = [value] if SETTINGS[key].argument and isinstance(value, list) else value
    for key, path in job.files.items():
        found[key] = Path(os.path.relpath(path, folder)).as_posix()
    # The run's own draw is a setting where the new grid does not turn it.
    if job.get("data.seed"):
        found["data.seed"] = job["data.seed"]
    return found


def _base_first(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Bring the cell forward whose settings every other can override."""

    def stuck(base: dict[str, Any]) -> set[str]:
        return {
            key
            for other in cells
            for key in base
            if key not in other and SETTINGS[key].default is None and SETTINGS[key].applies(other)
        }

    found = [stuck(cell) for cell in cells]
    place = min(range(len(cells)), key=lambda i: len(found[i]))
    if found[place]:
        raise UserError(
            f"the cells differ in {listing(sorted(found[place]))}, which some of them do not have: "
            "one grid file cannot say that; narrow the run with --where"
        )
    return [cells[place], *cells[:place], *cells[place + 1 :]]


def _axis(values: Sequence[int]) -> Any:
    if isinstance(values, range):
        return {"range": [values.start, values.stop, values.step]}
    return list(values)


def _tables(settings: Mapping[str, Any]) -> list[str]:
    """Lines of TOML, in the order of the settings, as one would write a grid file."""
    lines = []
    for table in TABLES:
        own = [key for key in settings if key.startswith(f"{table}.")]
        if own:
            lines += ["", f"[{table}]"]
        for key in sorted(own, key=position):
            value = settings[key]
            known = SETTINGS.get(key)
            if known is None or value != known.default:
                lines.append(f"{key.partition('.')[2]} = {_toml(value)}")
    return lines


def _toml(value: Any) -> str:
    """Write a value; JSON is TOML here, but for inline tables."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)
