"""Reading .csv and .parquet tables with a label column, every fault with its place.

Rows are counted from 1, below the header.
"""

from __future__ import annotations

import csv
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltcli.data.arrays import fractions
from tiltcli.data.encoding import rows_said, texts_of
from tiltcli.data.limits import check_bytes
from tiltcli.errors import UserError, listing, with_suggestion

if TYPE_CHECKING:
    import pandas as pd

CSV_GROWTH = 8  # "1,": two bytes of text become eight, and some more on the way
ROW_BYTES = 120  # of a label, which is a Python object for a while
MOST_COLUMNS = 100_000
_INDEX = re.compile(r"\s*|Unnamed: \d+|__index_level_\d+__")


@dataclass(frozen=True)
class Table:
    """A table as it was read."""

    columns: pd.DataFrame  # all but the labels
    # which of them hold texts: so typed in Parquet, and in CSV by what they hold
    texts: frozenset[str]
    labels: list[str]  # of each row, as texts
    faults: list[str]  # what is wrong with either


def read_table(path: Path, target: str | None, texts: frozenset[str] = frozenset()) -> Table:
    """Read a .csv (UTF-8, commas, a header) or .parquet; `texts`: columns known to hold texts."""
    if target is None:
        raise UserError(f"{path}: a table needs data.target, the name of its label column")
    try:
        if path.suffix.lower() == ".parquet":
            frame, faults, texts = _parquet(path, target)
        else:
            frame, faults = _csv(path, target, texts)
            texts = texts_of(frame)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not UTF-8 text (byte {error.object[error.start]:#04x}); save it as UTF-8"
        ) from None
    except OSError as error:
        reason = error.strerror or str(error)[:200]
        raise UserError(f"{path}: cannot be read: {reason}") from None
    except Exception as error:  # pyarrow and pandas raise many kinds for damaged files
        raise UserError(f"{path}: not a readable table: {str(error).strip()[:200]}") from None
    if not len(frame):
        raise UserError(f"{path}: has no rows below its header")
    labels: list[str] = []
    if target in frame:
        labels, wrong = _labels(frame[target])
        faults += [f"column {target}: {text}" for text in wrong]
    return Table(frame.drop(columns=target, errors="ignore"), texts - {target}, labels, faults)


def _check_names(path: Path, names: Sequence[str], target: str) -> None:
    if len(names) > MOST_COLUMNS:
        raise UserError(f"{path}: has {len(names):,} columns; at most {MOST_COLUMNS:,} are allowed")
    faults = []
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        faults.append(f"{path}: has two columns of one name: {listing(twice)}")
    if target not in names:
        shown = [repr(name) if not name.strip() or len(name) > 60 else name for name in names]
        problem = f"{path}: has no column {target}"
        faults.append(with_suggestion(problem, target, shown, says="it has"))
        if len(names) == 1 and any(sign in names[0] for sign in ";\t|"):
            faults.append(f"{path}: its columns are not separated by commas")
    elif len(names) == 1:
        faults.append(f"{path}: has no column besides {target}; allowed: at least one of numbers")
    if faults:
        raise UserError(*faults)


def _index_faults(names: Sequence[str]) -> list[str]:
    return [
        f"column {number} is called {name!r}: an index that pandas wrote along? It is no feature: "
        "leave it out (to_csv and to_parquet: index=False), or give it a name"
        for number, name in enumerate(names, 1)
        if _INDEX.fullmatch(name)
    ]


def _csv(path: Path, target: str, texts: frozenset[str]) -> tuple[pd.DataFrame, list[str]]:
    import pandas as pd

    check_bytes(path, CSV_GROWTH * path.stat().st_size, "its table")
    # Pandas renames a second column of one name, so that it could not be told.
    with path.open(encoding="utf-8-sig", newline="") as file:
        names = next(csv.reader(file, strict=True), [])
    if not names:
        raise UserError(f"{path}: empty; needed: a header with names of columns, then rows")
    _check_names(path, names, target)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pd.errors.DtypeWarning)
        # Rows that are longer than the header would be cut with a warning alone.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        frame = pd.read_csv(
            path,
            encoding="utf-8-sig",
            compression=None,
            header=0,
            names=names,
            index_col=False,
            dtype=dict.fromkeys((target, *texts), str),
            low_memory=False,  # a column is of one kind from its first row to its last
        )
    return frame, _index_faults(names)


def _parquet(path: Path, target: str) -> tuple[pd.DataFrame, list[str], frozenset[str]]:
    import pyarrow.parquet as pq

    with path.open("rb") as source, pq.ParquetFile(source) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
        index = (schema.pandas_metadata or {}).get("index_columns", [])
        names = [name for name in schema.names if name not in index or name == target]
        _check_names(path, names, target)
        held = {name: _held(schema.field(name).type) for name in names}
        faults = _index_faults(names)
        faults += [
            f"column {name}: {what}; allowed: "
            + ("labels, texts or whole numbers" if name == target else "numbers and texts")
            for name, what in held.items()
            if what not in ("numbers", "texts") and (name == target or what != "dates")
        ]
        good = [name for name, what in held.items() if what in ("numbers", "texts", "dates")]
        check_bytes(path, (8 * len(names) + ROW_BYTES) * rows, f"its table of {rows:,} rows")
    # Texts by number: a long one in every row of a small file is kept once.
    with path.open("rb") as source:
        texts = [name for name in good if held[name] == "texts"]
        table = pq.read_table(source, columns=good, read_dictionary=texts)
    return table.to_pandas(ignore_metadata=True), faults, frozenset(texts)


def _held(kind: Any) -> str:
    """Say what an Arrow type holds, as a user of pandas would."""
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    for words, tests in {
        "numbers": (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal),
        "texts": (types.is_string, types.is_large_string),
        "dates": (types.is_timestamp, types.is_date),
        "spans of time": (types.is_duration, types.is_time),
        "lists": (types.is_nested,),
        "bytes": (types.is_binary, types.is_large_binary, types.is_fixed_size_binary),
        "nothing": (types.is_null,),
    }.items():
        if any(test(kind) for test in tests):
            return words
    return str(kind)


def _labels(column: Any) -> tuple[list[str], list[str]]:
    missing = column.isna().to_numpy()
    if missing.any():
        return [], [f"no label (empty, NA, NaN, None or null) {rows_said(missing)}"]
    texts = [str(label).strip() for label in column.tolist()]
    if (first := fractions(texts)) is not None:
        return [], [
            f"a fraction in row {first + 1}, {texts[first][:40]}; allowed: labels, texts or whole "
            "numbers"
        ]
    return texts, []
