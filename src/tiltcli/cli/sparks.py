"""Learning curves as one line of text each."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from tiltcli.cli.console import utf8

if TYPE_CHECKING:
    import pandas as pd

    from tiltcli.evaluation.learning_curves import Curve

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = "_.:-=+*#"


def spark(values: Sequence[float], low: float, high: float) -> str:
    """Return a character per value, by its place between `low` and `high`; a space for none.

    Where stdout is not UTF-8 the characters are plain ASCII.
    """
    levels = BLOCKS if utf8(sys.stdout) else ASCII
    span = high - low if high > low else 1.0
    places = ((value - low) / span for value in values)
    return "".join(
        levels[max(0, min(int(place * 8), 7))] if math.isfinite(place) else " " for place in places
    )


def mean_curve(
    metrics: pd.DataFrame, jobs: Collection[str], metric: str, length: int
) -> list[float]:
    """Return a metric's mean over some jobs in `length` equal stretches of their epochs.

    Stretches without a logged epoch repeat the one before; NaN if nothing is logged at all.
    """
    import numpy as np
    import pandas as pd

    rows = metrics.loc[metrics["job"].isin(jobs), ["epoch", metric]].dropna()
    if rows.empty:
        return [float("nan")] * length
    place = (rows["epoch"] * length // (rows["epoch"].max() + 1)).clip(upper=length - 1)
    means = rows[metric].groupby(place).mean().reindex(range(length))
    return [float(v) for v in pd.Series(np.asarray(means, dtype=float)).ffill()]


def stretched(curve: Curve, length: int, last: int) -> list[float]:
    """Return a curve's mean in `length` equal stretches of the epochs from 0 to `last`.

    Stretches without a logged epoch repeat the one before.
    """
    import pandas as pd

    place = (curve.epochs * length // (last + 1)).clip(max=length - 1)
    means = pd.Series(curve.mean).groupby(place).mean().reindex(range(length))
    return [float(v) for v in means.ffill()]


def key(low: float, high: float, last: int) -> str:
    """What the characters stand for."""
    levels = BLOCKS if utf8(sys.stdout) else ASCII
    return f"epochs 0 to {last}; {levels[0]} is {low:.2f}, {levels[-1]} is {high:.2f}"
