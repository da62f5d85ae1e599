"""`--set key=value`: read, and brought into a grid file's content."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any


def parse_override(text: str) -> tuple[str, Any]:
    """Return the key and the value of "key=value"; None for the value where it is not of the kind.

    The value is TOML; a bare word is a text.
    """
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not key:
        return key, None
    try:
        parsed = tomllib.loads(f"value = {value}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return key, value
    return key, parsed["value"] if len(parsed) == 1 else value


def overridden(document: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return a grid file's content without its name, with overrides in the tables and blocks.

    Args:
        document: the content.
        overrides: by dotted key. In an `[[also]]` block only what it sets itself is overridden.

    """
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
