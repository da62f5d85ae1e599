"""Reading .csv and .parquet tables of numbers with a label column, every fault with its place.

Rows are counted from 1, below the header.
"""

from __future__ import annotations

import csv
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tiltcli.data.labels import Label, fractions, whole_numbers
from tiltcli.data.limits import check_bytes
from tiltcli.errors import UserError, listing, with_suggestion

if TYPE_CHECKING:
    import pandas as pd

MOST_FAULTS = 20
CSV_GROWTH = 8  # "1,": two bytes of text become eight, and some more on the way
Series = Any


def read_table(path: Path, target: str | None) -> tuple[npt.NDArray[np.float64], list[Label]]:
    """Read a table.

    Args:
        path: .csv (UTF-8, commas, a header) or .parquet.
        target: name of the label column; every other column holds numbers.

    Returns:
        the other columns, float64, shape (rows, columns), and the labels: whole numbers where all
        are such, else texts.

    Raises:
        UserError: with all that is wrong with it, each with its column and row.

    """
    if target is None:
        raise UserError(f"{path}: a table needs data.target, the name of its label column")
    try:
        reader = _parquet if path.suffix.lower() == ".parquet" else _csv
        frame = reader(path, target)
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
    inputs = [name for name in frame.columns if name != target]
    columns: list[npt.NDArray[np.float64]] = []
    faults: list[str] = []
    for name in inputs:
        values, fault = _numbers(frame[name])
        columns.append(values)
        faults += [f"{path}: column {name}: {text}" for text in fault]
    labels, fault = _labels(frame[target])
    faults += [f"{path}: column {target}: {text}" for text in fault]
    if faults:
        more = len(faults) - MOST_FAULTS
        raise UserError(
            *faults[:MOST_FAULTS], *([f"{path}: … and {more} more faults"] if more > 0 else [])
        )
    return np.stack(columns, axis=1), labels


def _check_names(path: Path, names: Sequence[str], target: str) -> None:
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


def _csv(path: Path, target: str) -> pd.DataFrame:
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
        return pd.read_csv(
            path,
            encoding="utf-8-sig",
            compression=None,
            header=0,
            names=names,
            index_col=False,
            dtype={target: str},
        )


def _parquet(path: Path, target: str) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with path.open("rb") as source, pq.ParquetFile(source) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
        index = (schema.pandas_metadata or {}).get("index_columns", [])
        names = [name for name in schema.names if name not in index or name == target]
        _check_names(path, names, target)
        faults = [
            f"{path}: column {name} holds {schema.field(name).type}; allowed: numbers"
            for name in names
            if name != target and not _number_type(schema.field(name).type)
        ]
        kind = schema.field(target).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        texts = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        if not (texts or _number_type(kind)):
            faults.append(
                f"{path}: column {target} holds {kind}; allowed: labels, texts or whole numbers"
            )
        if faults:
            raise UserError(*faults)
        check_bytes(path, 8 * rows * len(names), "its table")
    # Labels by number: a long text in every row of a small file is kept once.
    with path.open("rb") as source:
        encoded = [target] if texts else []
        table = pq.read_table(source, columns=names, read_dictionary=encoded)
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    return frame


def _number_type(kind: Any) -> bool:
    import pyarrow as pa

    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    return any(test(kind) for test in tests)


def _numbers(column: Series) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Convert a column to float64; say in which rows it cannot be."""
    import pandas as pd

    faults = []
    if pd.api.types.is_numeric_dtype(column.dtype):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        texts = np.zeros(len(values), dtype=bool)
    else:
        # Whole numbers too large for any integer type come as texts, and are numbers all the same.
        parsed: Series = pd.to_numeric(column, errors="coerce")
        values = parsed.to_numpy(dtype=np.float64, na_value=np.nan)
        texts = np.isnan(values) & column.notna().to_numpy()
    if texts.any():
        first = str(column.iloc[int(texts.argmax())])
        shown = repr(first if len(first) <= 40 else first[:39] + "…")
        faults.append(f"text where numbers belong {_rows(texts)}: {shown}")
    if (missing := np.isnan(values) & ~texts).any():
        faults.append(f"no number (empty or NaN) {_rows(missing)}")
    if (infinite := np.isinf(values)).any():
        faults.append(f"infinity {_rows(infinite)}")
    return values, faults


def _labels(column: Series) -> tuple[list[Label], list[str]]:
    missing = column.isna().to_numpy()
    if missing.any():
        return [], [f"no label (empty, NA, NaN, None or null) {_rows(missing)}"]
    texts = [str(label).strip() for label in column.tolist()]
    if (first := fractions(texts)) is not None:
        return [], [
            f"a fraction in row {first + 1}, {texts[first]}; allowed: labels, texts or whole "
            "numbers"
        ]
    return whole_numbers(texts), []


def _rows(bad: npt.NDArray[np.bool_]) -> str:
    """Say in which rows: all of them where they are few."""
    found = [int(row) + 1 for row in np.flatnonzero(bad)]
    if len(found) == 1:
        return f"in row {found[0]}"
    return f"in {len(found)} rows ({listing(found, 5)})"
