"""Numbers, intervals, tables and comparisons as the texts that terminals and reports show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tiltcli.errors import harmless
from tiltcli.evaluation.cells import Cells
from tiltcli.evaluation.comparison import UNDECIDED, Comparison
from tiltcli.evaluation.facets import named, short, tail, value_text
from tiltcli.statistics import Estimate


@dataclass(frozen=True)
class Table:
    """Rows ready to be shown."""

    title: str  # what they are about; may be empty
    header: tuple[str, ...]  # names of the columns
    rows: tuple[tuple[str, ...], ...]  # texts, one for each column
    left: tuple[str, ...] = ()  # columns of words, which begin at one edge; numbers end at one


def markdown(lines: Iterable[str], tables: Iterable[Table], notes: Iterable[str]) -> str:
    """Markdown: lines (a list where they are indented), a table under its title each, notes."""
    found = [f"- {line.strip()}" if line.startswith(" ") else line for line in lines]
    found.append("")
    for table in tables:
        found += [f"**{table.title}**", ""] if table.title else []
        found += [_line(table.header), "|" + " --- |" * len(table.header)]
        found += [*map(_line, table.rows), ""]
    found += [f"- {note}" for note in notes]
    return "\n".join(found).rstrip("\n")


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(harmless(cell).replace("|", "\\|") for cell in cells) + " |"


def to_markdown(comparison: Comparison) -> str:
    """Markdown of a comparison: a table for each metric, then the notes."""
    headline = f"b − a: {comparison.name_b} − {comparison.name_a}"
    return markdown([headline], metric_tables(comparison), [*comparison.notes, legend(comparison)])


def metric_tables(comparison: Comparison, *, compact: bool = False) -> list[Table]:
    """A table per metric; compact ones have short names, and three digits."""
    keys, tuned = comparison.keys, comparison.apart is not None
    names = tuple(short(key, symbols=compact) for key in keys)
    lost = ("lost",) if comparison.rows[["lost_a", "lost_b"]].to_numpy().any() else ()
    means = ("a", "b") if compact else ("mean a", "mean b")
    numbers = ("b − a", "95% interval", "p", "alone" if compact else "p alone", "verdict")
    count = ("n",) if compact else ("params/P", "pairs")
    header = (*names, "regime", *count, *lost, *means, *numbers)
    header += () if compact else ("n for 80%",)
    if tuned:
        header += ("cells", "from static partner") if compact else _TUNED
    found = []
    for metric in comparison.metrics:
        rows = comparison.rows[comparison.rows["metric"] == metric]
        texts = tuple(_texts(row, keys, compact, bool(lost)) for _, row in rows.iterrows())
        found.append(Table(metric, header, texts, ("regime", "verdict")))
    return [*found, _chosen(comparison)] if tuned else found


def legend(comparison: Comparison) -> str:
    """What the columns of the tables are that do not say it themselves."""
    return (
        f"regime: under (underparameterised) where static training ends below "
        f"{comparison.threshold:g}, else over; ? where no static jobs tell; params/P: parameters "
        "by training samples"
    )


def _chosen(comparison: Comparison) -> Table:
    """The cells that stand for the sides: what was tuned of them."""
    rows = comparison.rows.iloc[:: len(comparison.metrics)]
    texts = []
    for _, row in rows.iterrows():
        of_side: dict[str, list[str]] = {"a": [], "b": []}
        for key in comparison.cells:
            side, _, setting = key.rpartition(":")
            if side and key not in comparison.keys and not pd.isna(row[key]):
                of_side[side].append(f"{tail(setting)} {value_text(key, row[key])}")
        where = named({key: row[key] for key in comparison.keys}) or "all"
        texts.append((where, *map(", ".join, of_side.values())))
    return Table("chosen", ("row", "a", "b"), tuple(texts), ("row", "a", "b"))


_TUNED = ("cells a, b", "core-s a, b", "from static partner", "95% interval, n")


def _tuned(row: pd.Series[Any], compact: bool, digits: int) -> tuple[str, ...]:
    """What tuning took, and the difference from the static partner."""
    if "tried_a" not in row:
        return ()
    tried = f"{row['tried_a']:.0f}, {row['tried_b']:.0f}"
    partner = number(row["partner_difference"], sign=True, digits=digits)
    span = interval(row["partner_low"], row["partner_high"], digits=digits)
    if compact:
        return tried, partner if span == "–" else f"{partner} ({span.replace(' … ', '…')})"
    seconds = f"{row['seconds_a']:.0f}, {row['seconds_b']:.0f}"
    return tried, seconds, partner, "–" if span == "–" else f"{span}, {row['partner_n']}"


def _texts(row: pd.Series[Any], keys: list[str], compact: bool, lost: bool) -> tuple[str, ...]:
    regime = {"underparameterised": "under", "overparameterised": "over"}.get(row["regime"], "?")
    digits = 3 if compact else 4
    power = row["seeds_for_power"]
    return (
        *(value_text(key, row[key]) for key in keys),
        regime,
        *(() if compact else (f"{row['parameters'] / row['train_samples']:.2g}",)),
        str(row["n"]),
        *((f"{row['lost_a']}/{row['lost_b']}",) if lost else ()),
        number(row["mean_a"], digits=digits),
        number(row["mean_b"], digits=digits),
        number(row["difference"], sign=True, digits=digits),
        interval(row["low"], row["high"], digits=digits).replace(" … ", "…" if compact else " … "),
        p_value(row["p_corrected"]),
        p_value(row["p"]),
        verdict(row),
        *(() if compact else ("–" if pd.isna(power) else f"{power:.0f}",)),
        *_tuned(row, compact, digits),
    )


def verdict(row: pd.Series[Any]) -> str:
    """Text of a comparison's verdict on a row; of too few replicates how many it takes."""
    if row["verdict"] == UNDECIDED and row["n"] < row["seeds_needed"]:
        return f"n ≥ {row['seeds_needed']}"
    return str(row["verdict"])


def number(value: float, *, sign: bool = False, digits: int = 4) -> str:
    """Text of an accuracy or loss."""
    if pd.isna(value):
        return "–"
    return f"{value:{'+' if sign else ''}.{digits}f}"


def interval(low: float, high: float, *, digits: int = 4, sign: bool = True) -> str:
    """Text of an interval."""
    if pd.isna(low):
        return "–"
    return f"{number(low, sign=sign, digits=digits)} … {number(high, sign=sign, digits=digits)}"


def ranged(estimate: Estimate) -> str:
    """Text of a mean with its 95% interval: 0.969 (0.95 … 0.988)."""
    mean, low, high = (f"{value:.3g}" for value in (estimate.mean, estimate.low, estimate.high))
    return f"{mean} ({low} … {high})" if estimate.n > 1 else mean


def spread(estimate: Estimate, lost: int = 0) -> str:
    """Return the text of a mean with its 95% interval: 0.435 ±.027 (5), or (5, 2 lost)."""
    count = f"({estimate.n}, {lost} lost)" if lost else f"({estimate.n})"
    if not estimate.n:
        return f"– {count}" if lost else "–"
    if estimate.n == 1:
        return f"{estimate.mean:.3f} {count}"
    half = f"{estimate.high - estimate.mean:.3f}"
    return f"{estimate.mean:.3f} ±{half.removeprefix('0')} {count}"


def mean_text(cells: Cells, number: int | None, metric: str) -> str:
    """Mean of a cell with its interval, replicates and lost jobs: `0.435 ±.027 (5, 2 lost)`."""
    lost = 0 if number is None else int(cells.rows["lost"].loc[number])
    return spread(cells.estimate(number, metric), lost)


def p_value(p: float) -> str:
    """Text of a p-value."""
    if pd.isna(p):
        return "–"
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"
