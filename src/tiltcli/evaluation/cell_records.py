"""The table of cells as records for machines, one per cell."""

from __future__ import annotations

from typing import Any

from tiltcli.errors import Outcome
from tiltcli.evaluation.cells import ALWAYS, Cells
from tiltcli.grid.settings import SETTINGS

_NUMBERS = ("n", "mean", "low", "high", "pairs", "change", "change_low", "change_high")


def cell_records(cells: Cells) -> list[dict[str, Any]]:
    """Return a record for each cell; what is not known or does not apply is None."""
    table = cells.rows.astype(object).where(cells.rows.notna(), None)
    settings = list(dict.fromkeys(("loss.kind", *ALWAYS, *cells.outside, *cells.inside)))
    counts = ("jobs", "lost", *map(str, Outcome))
    found = []
    for number, row in zip(table.index.tolist(), table.to_dict("records"), strict=True):
        found.append(
            {
                "cell": number,
                "group": row["group"],
                "static": row["static"],
                "settings": {key: _value(key, row[key]) for key in settings},
                **{name: row[name] for name in counts},
                "partner": None if row["partner"] < 0 else row["partner"],
                **{name: row[name] for name in ("regime", "parameters", "train_samples")},
                "metrics": {
                    metric: {name: row[f"{metric}:{name}"] for name in _NUMBERS}
                    for metric in cells.metrics
                },
            }
        )
    return found


def _value(key: str, value: Any) -> Any:
    """Whole numbers as such: a column that has gaps (a full batch beside batches) holds floats."""
    whole = value is not None and key in SETTINGS and SETTINGS[key].whole
    return int(value) if whole else value
