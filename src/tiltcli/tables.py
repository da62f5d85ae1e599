"""A comparison as JSON, CSV, Markdown, and as the compact rows that terminals and reports show."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tiltcli.comparison import Comparison

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


def blocks(comparison: Comparison) -> list[Block]:
    """A block of rows per metric."""
    keys = [*comparison.groups, *comparison.cells]
    header = (
        *(key.rpartition(".")[2] if ":" not in key else key for key in keys),
        "regime",
        "params/P",
        "pairs",
        "mean a",
        "mean b",
        "b − a",
        "95% interval",
        "p",
    )
    found = []
    for metric in comparison.metrics:
        rows = comparison.rows[comparison.rows["metric"] == metric]
        found.append(Block(metric, header, tuple(_texts(row, keys) for _, row in rows.iterrows())))
    return found


def _texts(row: pd.Series[Any], keys: list[str]) -> tuple[str, ...]:
    regime = {"underparameterised": "under", "overparameterised": "over"}.get(row["regime"], "?")
    return (
        *(plain(row[key]) for key in keys),
        regime,
        f"{row['parameters'] / row['train_samples']:.2g}",
        str(row["n"]),
        number(row["mean_a"]),
        number(row["mean_b"]),
        number(row["difference"], sign=True),
        interval(row["low"], row["high"]),
        p_value(row["p_corrected"]),
    )


def plain(value: Any) -> str:
    """Text of a setting."""
    if pd.isna(value):
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)


def number(value: float, *, sign: bool = False) -> str:
    """Text of an accuracy or loss: four digits after the point."""
    if pd.isna(value):
        return "–"
    return f"{value:+.4f}" if sign else f"{value:.4f}"


def interval(low: float, high: float) -> str:
    """Text of an interval."""
    return "–" if pd.isna(low) else f"{low:+.4f} … {high:+.4f}"


def p_value(p: float) -> str:
    """Text of a p-value."""
    if pd.isna(p):
        return "–"
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def _bare(value: Any) -> Any:
    if value is None or pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value
