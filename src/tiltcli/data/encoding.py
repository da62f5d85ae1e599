"""From the columns of a table to numbers: texts one-hot, what is missing by the median.

What is learnt of the training part is plain data, so that it can be kept as JSON with a run and
applied to other tables: a list of columns, each with the `median` that fills its gaps (null: there
may be none) or, for texts, its `categories` in order (null among them: what is missing is one).
A text that training lacks is in no category: zeros, as scikit-learn's OneHotEncoder has it with
handle_unknown="ignore".
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tiltcli.errors import UserError, listing

if TYPE_CHECKING:
    import pandas as pd

Encoding = list[dict[str, Any]]
Mask = npt.NDArray[np.bool_]

MOST_FAULTS = 20
MOST_CATEGORIES = 1000
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ].*)?|\d{1,2}[./]\d{1,2}[./](\d{4}|\d\d)")
_LOOKED_AT = 1000  # values of a column that say what it holds
_DATES = (
    "dates, which are no numbers; make numbers of them (year, month, days since a day) or "
    "leave the column out"
)


def texts_of(table: pd.DataFrame) -> frozenset[str]:
    """Return the columns that hold texts: no number in at least half of what is there."""
    found = set()
    for name in table.columns:
        _, texts, missing = _parsed(table[name])
        if texts.any() and 2 * texts.sum() >= (~missing).sum():
            found.add(name)
    return frozenset(found)


def column_faults(
    table: pd.DataFrame, texts: frozenset[str], categorical: str, missing: str
) -> list[str]:
    """Say what of a table to learn from cannot become numbers, each with its column and rows."""
    faults = []
    for name in table.columns:
        if name not in texts:
            faults += _number_faults(table[name], missing == "median")
            continue
        said = _unfit(table[name])
        if not said:
            _, text, gaps = _parsed(table[name])
            said = _text_faults(table[name], text if text.any() else ~gaps, categorical)
            if gaps.any() and missing == "refuse":
                said.append(
                    f"no text (empty or missing) {rows_said(gaps)}; data.missing = "
                    '"median" makes that a category'
                )
        faults += [f"column {name}: {one}" for one in said]
    return faults


def value_faults(table: pd.DataFrame, needed: Mapping[str, bool | None]) -> list[str]:
    """Say what a table has that the columns of training (True: gaps filled, None: texts) lacked."""
    lacking = [name for name in needed if name not in table.columns]
    faults = [f"lacks columns that training had: {listing(lacking)}"] if lacking else []
    for name, filled in needed.items():
        if filled is not None and name in table.columns:
            faults += _number_faults(table[name], filled)
    return faults


def _number_faults(column: Any, filled: bool) -> list[str]:
    """Say what of a column are no numbers; gaps are none where they are filled."""
    said = _unfit(column)
    if not said:
        values, text, gaps = _parsed(column)
        if text.any():
            first = _short(str(column.iloc[int(text.argmax())]))
            said.append(f"text where numbers belong {rows_said(text)}: {first}")
        if gaps.any() and not filled:
            said.append(
                f"no number (empty or NaN) {rows_said(gaps)}; data.missing = "
                '"median" fills in the median'
            )
        if (infinite := np.isinf(values)).any():
            said.append(f"infinity, or beyond 1.8e308, {rows_said(infinite)}")
    return [f"column {column.name}: {one}" for one in said]


def _unfit(column: Any) -> list[str]:
    """Say why a column is neither numbers nor texts."""
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return [_DATES]
    if pd.api.types.is_timedelta64_dtype(column.dtype):
        return ["spans of time; allowed: numbers, as column.dt.total_seconds() gives"]
    kinds = {type(one) for one in column.head(_LOOKED_AT)} if column.dtype == object else set()
    if kinds & {list, dict, tuple, bytes, np.ndarray}:
        return ["lists or other objects; allowed: numbers and texts"]
    return [_DATES] if datetime.date in kinds else []


def _text_faults(column: Any, text: Mask, categorical: str) -> list[str]:
    found = column[text].astype(str)
    if all(_DATE.fullmatch(one) for one in found.head(_LOOKED_AT)):
        return [_DATES]
    count = found.nunique()
    if count > MOST_CATEGORIES or (count == len(found) and count > 20):
        return [
            f"{count:,} different texts in {len(found):,} rows, as names or numbers of cases have; "
            f"allowed: at most {MOST_CATEGORIES:,} categories; leave the column out"
        ]
    if categorical == "refuse":
        return [
            f"text where numbers belong {rows_said(text)}: {_short(found.iloc[0])}; "
            f'data.categorical = "onehot" makes a column of 0 and 1 of each of its {count} texts'
        ]
    return []


def fit(table: pd.DataFrame, texts: frozenset[str], missing: str, source: str) -> Encoding:
    """Return how columns of the training part become numbers: JSON for `encode`."""
    encoding: Encoding = []
    faults = []
    for name in table.columns:
        if name in texts:
            found = set(_texts(table[name]))
            kinds = sorted(found, key=lambda one: (one is None, one or ""))
            encoding.append({"column": name, "categories": kinds})
            continue
        values, _, gaps = _parsed(table[name])
        median = None
        if missing == "median" and gaps.all():
            faults.append(
                f"{source}: column {name}: no number in the training part; leave the column out"
            )
        elif missing == "median":
            median = float(np.median(values[~gaps]))
        encoding.append({"column": name, "median": median})
    if faults:
        raise UserError(*faults)
    return encoding


def coded(table: pd.DataFrame, encoding: Encoding, source: str = "table") -> npt.NDArray[Any]:
    """Return the rows of a table as numbers, one a column: texts as their places in `categories`.

    Columns that training had not are left out. Float64 (rows, columns); −1 for a text that training
    lacked, NaN for a gap.
    """
    needed = {o["column"]: None if "categories" in o else o["median"] is not None for o in encoding}
    check_faults(source, value_faults(table, needed))
    out = np.empty((len(table), len(encoding)))
    for at, one in enumerate(encoding):
        column = table[one["column"]]
        if "categories" in one:
            number = {kind: i for i, kind in enumerate(one["categories"])}
            out[:, at] = [number.get(text, -1) for text in _texts(column)]
        else:
            out[:, at] = _parsed(column)[0]
    return out


def encode(table: pd.DataFrame, encoding: Encoding, source: str = "table") -> npt.NDArray[Any]:
    """Return rows of a table as inputs, float64 (rows, inputs), before they are standardised."""
    made = coded(table, encoding, source)
    out = np.empty((len(table), len(places := origins(encoding))))
    for at, (origin, category, median) in enumerate(places):
        column = made[:, origin]
        out[:, at] = (
            np.where(np.isnan(column), median, column) if category < 0 else column == category
        )
    return out


def origins(encoding: Encoding) -> list[tuple[int, int, float]]:
    """Say what each input is of: place of its column, of its category (−1: a number), median."""
    found: list[tuple[int, int, float]] = []
    for at, one in enumerate(encoding):
        if "categories" in one:
            found += [(at, number, math.nan) for number in range(len(one["categories"]))]
        else:
            median = one["median"]
            found.append((at, -1, math.nan if median is None else median))
    return found


def check_faults(source: str, faults: Sequence[str]) -> None:
    """Refuse a table, saying what is wrong with it, the first of it where it is much."""
    if faults:
        more = len(faults) - MOST_FAULTS
        cut = [f"{source}: … and {more} more faults"] if more > 0 else []
        raise UserError(*(f"{source}: {fault}" for fault in faults[:MOST_FAULTS]), *cut)


def _parsed(column: Any) -> tuple[npt.NDArray[np.float64], Mask, Mask]:
    """Return a column as float64, where it holds texts instead, and where nothing."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column.dtype):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        return values, np.zeros(len(values), dtype=bool), np.isnan(values)
    # Whole numbers too large for any integer type come as texts, and are numbers all the same.
    objects = column.astype(object)
    try:
        parsed = pd.to_numeric(objects, errors="coerce")
    except OverflowError:  # beyond floating point: infinity, as its text would be
        parsed = pd.to_numeric(objects.where(column.isna(), column.astype(str)), errors="coerce")
    values = parsed.to_numpy(dtype=np.float64, na_value=np.nan)
    gaps = column.isna().to_numpy()
    return values, np.isnan(values) & ~gaps, gaps


def _texts(column: Any) -> list[str | None]:
    gaps = column.isna().to_numpy()
    return [
        None if gap else str(int(one) if isinstance(one, float) and one.is_integer() else one)
        for one, gap in zip(column.tolist(), gaps, strict=True)
    ]


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")


def rows_said(bad: Mask) -> str:
    """Say in which rows, counted from 1: all of them where they are few."""
    found = [int(row) + 1 for row in np.flatnonzero(bad)]
    if len(found) == 1:
        return f"in row {found[0]}"
    shown = ", ".join(map(str, found[:5]))
    return f"in {len(found)} rows ({shown}{', …' if len(found) > 5 else ''})"
