"""`--set key=value`: read, and brought into a grid file's content."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any


def parse_override(text: str) -> tuple[str, Any]:
    """Return key and value, TOML or a bare word, of "key=value"; None if it is not of the kind."""
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not key:
        return key, None
    try:
        parsed = tomllib.loads(f"value = {value}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return key, value
    return key, parsed["value"] if len(parsed) == 1 else value


def overridden(document: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return a grid without its name; overrides replace in `[[also]]` only what it sets itself."""
    made: dict[str, Any] = {key: value for key, value in document.items() if key != "name"}
    for block in (made, *made.get("also", [])):
        for key, value in overrides.items():
            *tables, name = key.split(".")
            table = block
            for one in tables:
                if block is made or one in table:
                    table[one] = dict(table.get(one, {}))
                table = table.get(one, {})
            if tables and (block is made or name in table):
                if key == "train.seed":
                    name, value = "seeds", value if isinstance(value, list) else [value]
                table[name] = value
    return made
