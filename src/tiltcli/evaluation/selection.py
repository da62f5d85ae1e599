"""Conditions on jobs, such as `model.width == 30`; nothing is ever evaluated as code."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pandas as pd

from tiltcli.errors import UserError, listing, with_suggestion
from tiltcli.evaluation.facets import value_text
from tiltcli.grid.settings import SETTINGS
from tiltcli.store.read import Tables

Value = float | str | bool | None
_ORDER = ("<", "<=", ">", ">=")


class Number(float):
    """A number as it was written: `half` of its last decimal, within which others round to it."""

    half = 0.0

    @staticmethod
    def read(word: str) -> Number:
        """Return the number that a word is; `float` raises what it is not."""
        number = Number(word)
        exponent = Decimal(word).as_tuple().exponent if math.isfinite(number) else 0
        number.half = 0.5 * 10.0 ** min(int(exponent), 0)
        return number


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
    """Return the conditions of a text: `KEY OP VALUE`, joined by `and`, `&` or a comma."""
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
        return Number.read(word)
    except (ValueError, ArithmeticError):
        return word


def select(frame: pd.DataFrame, conditions: Sequence[Condition], name: str = "") -> pd.DataFrame:
    """Return the rows of a jobs table that meet all conditions."""
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
                met |= _meets(column, condition.operator, value)
                if condition.operator == "!=" and _null_word(condition.key):
                    met |= column.isna()  # it stands for a value, which is another one
        kept &= met
    if faults:
        raise UserError(*faults)
    if not kept.any() and len(frame):
        has = "; ".join(f"{c.key} there: {_there(frame[c.key])}" for c in conditions)
        where = f"{name}: " if name else ""
        raise UserError(f"{where}no job meets {' and '.join(c.text for c in conditions)}; {has}")
    return frame[kept]


def lacks(frame: pd.DataFrame, condition: Condition) -> bool:
    """Whether a condition is on a setting that no job of a table has: static ones no amplitude."""
    key = condition.key
    named = key in SETTINGS and key in frame and _null_word(key) is None
    return named and None not in condition.values and not frame[key].notna().any()


def _there(column: pd.Series[Any]) -> str:
    """Values of a column as tables show them, for a message."""
    key = str(column.name)
    values = sorted(column.dropna().unique().tolist(), key=by_kind)
    if _null_word(key) and column.isna().any():
        values.append(None)
    return (
        listing([value_text(key, value) for value in values])
        or "none, for it does not apply to these jobs"
    )


def by_kind(value: object) -> tuple[str, object]:
    """Sort key of values that need not be of one kind."""
    return ("number" if isinstance(value, int | float) else "text", value)


def _meets(column: pd.Series[Any], operator: str, value: Value) -> pd.Series[bool]:
    """Return where a column meets a condition with a value that is not null; a null never does.

    A number is equal to those that round to the digits given, as tables show them, unless some are
    equal to the last digit.
    """
    known = column.notna()
    if not known.any():
        return known
    assert value is not None
    same = column.eq(value)
    if isinstance(value, Number):
        numbers = column.astype(float)
        if not same.any():
            same = (numbers - value).abs().le(value.half * (1 + 1e-9))
        if operator in _ORDER:
            beyond = numbers.lt(value) if operator[0] == "<" else numbers.gt(value)
            same = beyond | same if operator.endswith("=") else beyond & ~same
    return (~same if operator == "!=" else same) & known


def _null_word(key: str) -> str | None:
    return SETTINGS[key].null if key in SETTINGS else None


def _with_nulls(condition: Condition) -> Condition:
    """Put null for a word that the column has null for: the full batch; and no null for "none"."""
    if condition.key in SETTINGS and SETTINGS[condition.key].default == "none":
        named = ("none" if value is None else value for value in condition.values)
        return replace(condition, values=tuple(named))
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
    said = f"selection {condition.text!r}"
    known = frame[condition.key].dropna()
    flag = bool(len(known)) and all(isinstance(value, bool) for value in known.unique().tolist())
    numeric = pd.api.types.is_numeric_dtype(frame[condition.key]) and not flag
    what = "true or false" if flag else "numbers" if numeric else "texts"
    ordered = condition.operator in _ORDER
    for value in condition.values:
        if value is None and ordered:
            return f"{said}: null has no order; allowed: ==, !="
        kind = {bool: "true or false", str: "texts", Number: "numbers"}.get(type(value), what)
        if kind != what and len(known):
            return f"{said}: {condition.key} holds {what}, not {kind}"
        if ordered and kind != "numbers":
            return f"{said}: {kind.replace(' or ', ' and ')} have no order; allowed: ==, !=, in"
    return None


def narrowed(tables: Tables, where: Sequence[str], job: str | None) -> Tables:
    """Return the tables with only the chosen rows in `jobs`."""
    jobs = tables.jobs
    if jobs.empty:
        raise UserError(f"{tables.name}: no job has finished yet: there is nothing to draw")
    conditions = [c for text in where if text for c in parse_selection(text)]
    jobs = select(jobs, conditions, tables.name)
    if job is not None:
        chosen = jobs[jobs["job"].str.startswith(job)]
        if chosen.empty:
            raise UserError(
                f"--job: no job {job} in {tables.name}; there are {listing(list(jobs['job']), 6)}"
            )
        jobs = chosen
    return replace(tables, jobs=jobs)
