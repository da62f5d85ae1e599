"""The paper's claims about accuracy, put to the test on a run of chosen cells and fresh seeds."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from tiltcli.evaluation.cells import OVER, UNDER
from tiltcli.evaluation.claims.verdicts import Finding
from tiltcli.evaluation.comparison import Comparison
from tiltcli.evaluation.texts import plain
from tiltcli.statistics import mean_interval, permutation_test

CLAIMS = (
    (UNDER, "train_accuracy", "Underparameterised: dynamical reaches a higher training accuracy"),
    (OVER, "test_accuracy", "Overparameterised: dynamical generalises better"),
)


def accuracy_claims(comparison: Comparison) -> list[Finding]:
    """Judge both headline claims, each over all the widths of its regime together.

    One test per claim, so that nothing is picked afterwards: a replicate's differences are
    averaged over the regime's widths, and the replicates are the sample. Where another setting
    varies as well, each of its values is judged by itself.

    Args:
        comparison: of static (a) and dynamical (b), one cell for each of its groups.

    Returns:
        a finding per claim whose regime occurs; the other claims are left out.

    """
    findings = []
    apart = [key for key in comparison.groups if key != "model.width"]
    for regime, metric, claim in CLAIMS:
        if metric not in comparison.metrics:
            continue
        rows = comparison.rows[comparison.rows["metric"] == metric].reset_index(drop=True)
        rows = rows[rows["regime"] == regime]
        split = rows.groupby(apart, dropna=False, sort=False) if apart else [((), rows)]
        for values, own in split:
            where = [
                f"{k.rpartition('.')[2]} {plain(v)}" for k, v in zip(apart, values, strict=True)
            ]
            if len(own):
                findings.append(_finding(comparison, own, metric, claim, where))
    return findings


def _finding(
    comparison: Comparison, rows: pd.DataFrame, metric: str, claim: str, where: Sequence[str]
) -> Finding:
    sample = per_replicate(comparison, list(rows.index), metric)
    each = ", ".join(
        f"{plain(width)}: {difference:+.4f}"
        for width, difference in zip(rows["model.width"], rows["difference"], strict=True)
    )
    measured = f"{metric.replace('_', ' ')}, dynamical − static"
    measured += f" at {', '.join(where)}" if where else ""
    measured += f", mean over the regime's widths ({each})"
    if lost := int(rows["lost_a"].sum() + rows["lost_b"].sum()):
        measured += f"; {lost} jobs diverged or failed"
    by_draw = comparison.pairs.loc[comparison.pairs["row"].isin(rows.index), "by_draw"].any()
    return Finding(
        claim,
        measured,
        mean_interval(sample),
        permutation_test(sample),
        "draws of the data" if by_draw else "seeds",
    )


def per_replicate(comparison: Comparison, rows: list[int], metric: str) -> pd.Series[float]:
    """Difference of each replicate, averaged over rows; those that lack a row are left out.

    Args:
        comparison: with its pairs.
        rows: numbers of its groups and cells.
        metric: what differs.

    Returns:
        differences b − a, indexed by replicate.

    """
    pairs = comparison.pairs[comparison.pairs["row"].isin(rows)]
    difference = (pairs[f"{metric}_b"] - pairs[f"{metric}_a"]).groupby(
        [pairs["unit"], pairs["row"]]
    )
    return difference.mean().unstack().reindex(columns=rows).dropna().mean(axis=1)
