"""Conditions on jobs, such as `model.width == 30`; nothing is ever evaluated as code."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from tiltcli.errors import UserError, listing, with_suggestion
from tiltcli.grid.settings import SETTINGS

Value = float | str | bool | None

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": lambda column, value: column == value,
    "!=": lambda column, value: (column != value) & column.notna(),
    "<=": lambda column, value: column <= value,
    ">=": lambda column, value: column >= value,
    "<": lambda column, value: column < value,
    ">": lambda column, value: column > value,
}
_CLAUSE = re.compile(
    r"""\s*(?P<key>[A-Za-z_][\w.]*)\s*
    (?P<op>==|!=|<=|>=|=|<|>|\bin\b)\s*
    (?P<value>\[[^\]]*\]|"[^"]*"|'[^']*'|[^\s,&\[\]"'=<>!]+)\s*
    (?P<end>,|&&?|\band\b|$)""",
    re.VERBOSE,
)
_ALLOWED = (
    "allowed: KEY OP VALUE with ==, !=, <, <=, >, >= or in [VALUE, …], "
    "several joined by 'and', as in 'model.width == 30 and loss.period in [50, 300]'"
)


@dataclass(frozen=True)
class Condition:
    """One comparison of a column with a value, or with several (`in`)."""

    key: str
    operator: str
    values: tuple[Value, ...]
    text: str


def parse_selection(text: str) -> list[Condition]:
    """Return the conditions of a text: `KEY OP VALUE`, joined by `and`, `&` or a comma.

    Args:
        text: such as `loss.kind=static` or `model.width in [10, 30] and train.lr >= 0.5`.

    Raises:
        UserError: if it is not of that form.

    """
    conditions: list[Condition] = []
    at = 0
    while at < len(text):
        found = _CLAUSE.match(text, at)
        if found is None:
            raise UserError(f"selection {text!r}: cannot be read from {text[at:]!r}; {_ALLOWED}")
        operator, value = found["op"], found["value"]
        if (operator == "in") != value.startswith("["):
            raise UserError(f"selection {text!r}: 'in' takes a list in brackets; {_ALLOWED}")
        words = value[1:-1].split(",") if operator == "in" else [value]
        values = tuple(_value(word.strip()) for word in words if word.strip())
        operator = "==" if operator == "=" else operator
        conditions.append(Condition(found["key"], operator, values, found[0].strip(" ,&")))
        at = found.end()
        if found["end"] and not text[at:].strip():
            raise UserError(f"selection {text!r}: something is missing at its end; {_ALLOWED}")
    if not conditions:
        raise UserError(f"selection {text!r}: is empty; {_ALLOWED}")
    return conditions


def _value(word: str) -> Value:
    if word[:1] in "\"'":
        return word[1:-1]
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    if word.lower() in ("null", "none"):
        return None
    try:
        return float(word)
    except ValueError:
        return word


def select(frame: pd.DataFrame, conditions: Sequence[Condition], name: str = "") -> pd.DataFrame:
    """Return the rows of a jobs table that meet all conditions.

    Args:
        frame: the table; a null meets no condition but `== null`.
        conditions: what to keep.
        name: of the run, for messages.

    Raises:
        UserError: for unknown columns or values that cannot be compared (all of them at once),
            or if no row is left.

    """
    faults: list[str] = []
    kept = pd.Series(True, index=frame.index)
    for condition in map(_with_nulls, conditions):
        problem = _problem(frame, condition)
        if problem:
            faults.append(problem)
            continue
        column = frame[condition.key]
        met = pd.Series(False, index=frame.index)
        for value in condition.values:
            if value is None:
                met |= column.isna() if condition.operator != "!=" else column.notna()
            else:
                operator = "==" if condition.operator == "in" else condition.operator
                met |= _OPERATORS[operator](column, value).fillna(False).astype(bool)
                if operator == "!=" and _null_word(condition.key):
                    met |= column.isna()  # it stands for a value, which is another one
        kept &= met
    if faults:
        raise UserError(*faults)
    if not kept.any() and len(frame):
        has = "; ".join(
            f"{c.key} there: {listing(sorted(frame[c.key].dropna().unique().tolist()))}"
            for c in conditions
        )
        where = f"{name}: " if name else ""
        raise UserError(f"{where}no job meets {' and '.join(c.text for c in conditions)}; {has}")
    return frame[kept]


def _null_word(key: str) -> str | None:
    return SETTINGS[key].null if key in SETTINGS else None


def _with_nulls(condition: Condition) -> Condition:
    """Put null for a word that the column has null for: the full batch."""
    word = _null_word(condition.key)
    if word is None:
        return condition
    values = tuple(None if value == word else value for value in condition.values)
    return replace(condition, values=values)


def _problem(frame: pd.DataFrame, condition: Condition) -> str | None:
    names = list(frame.columns)
    if condition.key not in names:
        problem = f"selection {condition.text!r}: no column {condition.key}"
        return with_suggestion(problem, condition.key, names)
    numeric = pd.api.types.is_numeric_dtype(frame[condition.key])
    flag = pd.api.types.is_bool_dtype(frame[condition.key])
    for value in condition.values:
        if value is None and condition.operator not in ("==", "!=", "in"):
            return f"selection {condition.text!r}: null has no order; allowed: ==, !="
        if isinstance(value, float) and not numeric and frame[condition.key].notna().any():
            return f"selection {condition.text!r}: {condition.key} holds texts, not numbers"
        if isinstance(value, str) and (numeric or flag):
            return f"selection {condition.text!r}: {condition.key} holds numbers, not texts"
        if isinstance(value, str) and condition.operator not in ("==", "!=", "in"):
            return f"selection {condition.text!r}: texts have no order; allowed: ==, !=, in"
    return None
