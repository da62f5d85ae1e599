"""The grid file as a JSON Schema (draft 2020-12), so that editors complete and check it.

Made from the table of settings, so that it says what the reader of grid files says. What takes two
values to judge (axes of different lengths that are tied, shares that do not add up) is the
reader's alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from string import Template
from typing import Any

from pydantic import TypeAdapter

from tiltcli.grid.axes import LONGEST, SPANS
from tiltcli.grid.probe_settings import DEFAULT, QUANTITIES
from tiltcli.grid.search import SEED, TRIALS
from tiltcli.grid.setting_types import ALWAYS, MOST_WHOLE, REQUIRED, Condition, Setting
from tiltcli.grid.settings import SETTINGS, TABLES
from tiltcli.grid.sweep import MOST_SEEDS, NAME

Schema = dict[str, Any]

_NUMBER: Schema = {"type": "number"}
_POSITIVE: Schema = {"type": "number", "exclusiveMinimum": 0}
_COUNT: Schema = {"type": "integer", "minimum": 1, "maximum": LONGEST}
_SEARCHED = "; only where there is a [search]"
_AXES: dict[str, tuple[list[Schema], int, str]] = {
    "range": (
        [_NUMBER, _NUMBER, {"type": "number", "not": {"const": 0}}],
        2,
        "[start, stop, step]; the stop is left out",
    ),
    "linspace": ([_NUMBER, _NUMBER, _COUNT], 3, "[lowest, highest, number of values]"),
    "logspace": (
        [_POSITIVE, _POSITIVE, _COUNT],
        3,
        "[lowest, highest, number of values], geometric; lowest and highest are values",
    ),
    "uniform": ([_NUMBER, _NUMBER], 2, SPANS["uniform"] + _SEARCHED),
    "loguniform": ([_POSITIVE, _POSITIVE], 2, SPANS["loguniform"] + _SEARCHED),
}
"""Axes that are computed, by kind: what their array holds, how much at least, and what it is."""
_ABOUT = {
    "data": "what is learned",
    "model": "the network",
    "loss": "the loss, static or dynamical",
    "train": "how it is trained",
}


def json_schema() -> Schema:
    """JSON Schema of grid files: the frame of `schema.json`, filled in."""
    keys = [f"{key.partition('.')[0]}.{_name(key)}" for key in SETTINGS] + ["train.seed"]
    tie = {"type": "array", "items": {"enum": keys}, "minItems": 2, "uniqueItems": True}
    about = 'Axes that advance together, as [["model.width", "train.lr"]]; they are equally long.'
    base = {table: _table(table, complete=True) for table in TABLES}
    parts: Schema = {
        "name": f"^{NAME.pattern}$",
        "zip": {"type": "array", "items": tie, "description": about},
        "settings": list(SETTINGS),
        "trials": _described(TRIALS),
        "seed": _described(SEED) | {"default": SEED.default},
        "most": MOST_WHOLE,
        "quantities": list(QUANTITIES),
        "default": list(DEFAULT),
        **base,
        **{f"also_{table}": _table(table, complete=False) for table in TABLES},
        "required": [table for table in TABLES if base[table].get("required")],
        "needs": list(_needs()),
        "axes": {kind: _axis(kind, *about) for kind, about in _AXES.items()},
    }
    frame = Path(__file__).with_name("schema.json").read_text(encoding="utf-8")
    texts = {name: json.dumps(part, ensure_ascii=False) for name, part in parts.items()}
    schema: Schema = json.loads(Template(frame).substitute(texts))
    return schema


def _described(one: Setting) -> Schema:
    said = f"{one.meaning[0].upper()}{one.meaning[1:]}. Allowed: {one.allowed}."
    return TypeAdapter(one.type).json_schema() | {"description": said}


def _object(properties: Schema, **more: Any) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False, **more}


def _table(table: str, *, complete: bool) -> Schema:
    """One of the four tables; complete, if what has no default must be there."""
    own = [setting for setting in SETTINGS.values() if setting.key.startswith(table + ".")]
    properties = {_name(setting.key): _setting(setting) for setting in own}
    found = _object(properties, description=f"[{table}]: {_ABOUT[table]}.")
    required = [
        _name(setting.key)
        for setting in own
        if setting.default is REQUIRED and setting.applies is ALWAYS
    ]
    return found | ({"required": required} if complete and required else {})


def _name(key: str) -> str:
    """Name within its table, as grid files have it."""
    return "seeds" if key == "train.seed" else key.partition(".")[2]


def _setting(setting: Setting) -> Schema:
    plain = TypeAdapter(setting.type).json_schema()
    forms = [plain, {"type": "array", "items": plain, "minItems": 1, "maxItems": LONGEST}]
    if setting.arrow in ("int64", "float64"):
        forms += [{"$ref": f"#/$defs/{kind}"} for kind in _AXES]
    if setting.key == "train.seed":
        forms[0] = {"type": "integer", "minimum": 1, "maximum": MOST_SEEDS}
    found: Schema = {"description": _description(setting), "anyOf": forms}
    if setting.default not in (REQUIRED, None) and setting.key != "train.seed":
        found["default"] = setting.default
    return found


def _description(setting: Setting) -> str:
    unit, meaning = setting.unit, setting.meaning
    allowed = setting.allowed
    if setting.key == "train.seed":
        meaning = "seeds of initialisation and batch order"
        allowed = "a number of seeds (5: from 0 to 4), or an axis of seeds"
    text = f"{meaning[0].upper()}{meaning[1:]}. Allowed: {allowed}"
    text += f"; unit: {unit}." if unit not in ("", "1") and unit not in allowed else "."
    if setting.applies is not ALWAYS:
        text += f" Applies where {setting.applies}."
    return text


def _axis(kind: str, parts: list[Schema], least: int, meaning: str) -> Schema:
    numbers = {"type": "array", "prefixItems": parts, "items": False, "minItems": least}
    return _object({kind: numbers | {"description": meaning}}, required=[kind])


def _needs() -> Iterable[Schema]:
    """If this setting has such a value, that one must be there."""
    for setting in SETTINGS.values():
        needed = setting.applies if setting.default is REQUIRED else setting.needed
        if not needed.values:
            continue
        table, _, name = setting.key.partition(".")
        yield {
            "if": _may_be(needed),
            "then": {"required": [table], "properties": {table: {"required": [name]}}},
        }


def _may_be(condition: Condition) -> Schema:
    """Whether some jobs of a file meet a condition."""
    table, _, name = condition.keys[0].partition(".")
    values = {"enum": list(condition.values)}
    among = {"anyOf": [values, {"type": "array", "contains": values}]}
    if SETTINGS[condition.keys[0]].default in condition.values:
        return {"properties": {table: {"properties": {name: among}}}}  # holds if it is left out
    own = {"properties": {name: among}, "required": [name]}
    return {"properties": {table: own}, "required": [table]}
