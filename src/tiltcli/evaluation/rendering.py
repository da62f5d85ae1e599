"""A comparison as JSON, CSV, Markdown, and as the compact rows that terminals and reports show."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tiltcli.evaluation.comparison import Comparison
from tiltcli.statistics import Estimate

JSON_FORMAT = 1


@dataclass(frozen=True)
class Block:
    """One metric of a comparison, ready to be shown.

    Attributes:
        metric: its name.
        header: names of the columns.
        rows: texts, one list per row.

    """

    metric: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def to_json(comparison: Comparison) -> str:
    """JSON with a version; what is missing is null."""
    page = {
        "format": JSON_FORMAT,
        "a": comparison.name_a,
        "b": comparison.name_b,
        "threshold": comparison.threshold,
        "groups": comparison.groups,
        "cells": comparison.cells,
        "rows": [
            {key: _bare(value) for key, value in row.items()}
            for row in comparison.rows.to_dict("records")
        ],
        "notes": comparison.notes,
    }
    return json.dumps(page, indent=1, allow_nan=False, ensure_ascii=False)


def to_csv(comparison: Comparison) -> str:
    """CSV with a header; what is missing is empty."""
    return str(comparison.rows.to_csv(index=False, lineterminator="\n"))


def to_markdown(comparison: Comparison) -> str:
    """Markdown: a table for each metric, then the notes."""
    lines = [f"b − a: {comparison.name_b} − {comparison.name_a}", ""]
    for block in blocks(comparison):
        lines += [f"**{block.metric}**", "", _line(block.header)]
        lines.append("|" + " --- |" * len(block.header))
        lines += [*map(_line, block.rows), ""]
    lines += [f"- {note}" for note in comparison.notes]
    return "\n".join(lines).rstrip("\n")


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def blocks(comparison: Comparison, *, compact: bool = False) -> list[Block]:
    """A block of rows per metric; compact ones have short names, and three digits."""
    keys = [*comparison.groups, *comparison.cells]
    short = {"loss.amplitude": "A", "loss.period": "T"} if compact else {}
    names = (short.get(key, key.rpartition(".")[2] if ":" not in key else key) for key in keys)
    numbers = ("mean a", "mean b", "b − a", "95% interval", "p")
    header = (*names, "regime", "params/P", "pairs", *numbers)
    if compact:
        header = (*header[: len(keys)], "regime", "n", "a", "b", "b − a", "95% interval", "p")
    found = []
    for metric in comparison.metrics:
        rows = comparison.rows[comparison.rows["metric"] == metric]
        texts = tuple(_texts(row, keys, compact) for _, row in rows.iterrows())
        found.append(Block(metric, header, texts))
    return found


def _texts(row: pd.Series[Any], keys: list[str], compact: bool) -> tuple[str, ...]:
    regime = {"underparameterised": "under", "overparameterised": "over"}.get(row["regime"], "?")
    digits = 3 if compact else 4
    capacity = () if compact else (f"{row['parameters'] / row['train_samples']:.2g}",)
    return (
        *(plain(row[key]) for key in keys),
        regime,
        *capacity,
        str(row["n"]),
        number(row["mean_a"], digits=digits),
        number(row["mean_b"], digits=digits),
        number(row["difference"], sign=True, digits=digits),
        interval(row["low"], row["high"], digits=digits),
        p_value(row["p_corrected"]),
    )


def plain(value: Any) -> str:
    """Text of a setting."""
    if pd.isna(value):
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)


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


def spread(estimate: Estimate) -> str:
    """Text of a mean with its 95% interval and number of values: 0.435 ±.027 (5)."""
    if not estimate.n:
        return "–"
    if estimate.n == 1:
        return f"{estimate.mean:.3f} (1)"
    half = f"{estimate.high - estimate.mean:.3f}"
    return f"{estimate.mean:.3f} ±{half.removeprefix('0')} ({estimate.n})"


def p_value(p: float) -> str:
    """Text of a p-value."""
    if pd.isna(p):
        return "–"
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def _bare(value: Any) -> Any:
    if value is None or pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value
