"""What views call settings, their values and the facets that these make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from tiltcli.grid.settings import SETTINGS

_SYMBOLS = {"loss.amplitude": "A", "loss.period": "T"}


def short(key: str, *, symbols: bool = True) -> str:
    """Name of a setting where there is little room: `width`, `lr`, `A`; `a:` of a side stays."""
    if ":" in key:
        return key
    return _SYMBOLS.get(key, tail(key)) if symbols else tail(key)


def tail(key: str) -> str:
    """Last part of a setting's name: `amplitude`."""
    return key.rpartition(".")[2]


def value_text(key: str, value: Any) -> str:
    """Text of a setting's value; a dash where the setting does not apply."""
    key = key.rpartition(":")[2]
    if not isinstance(value, list | tuple) and pd.isna(value):
        return "full" if key == "train.batch_size" else "–"
    if isinstance(value, float):
        return str(int(value)) if key in SETTINGS and SETTINGS[key].whole else f"{value:g}"
    return str(value)[:8] if key.endswith("digest") else str(value)


def named(settings: Mapping[str, Any], *, symbols: bool = True) -> str:
    """Name of a facet: `width 10, A 3`; without symbols, `width 10, amplitude 3`."""
    return ", ".join(
        value_text(key, value)
        if key == "loss.kind"
        else f"{short(key, symbols=symbols)} {value_text(key, value)}"
        for key, value in settings.items()
    )
