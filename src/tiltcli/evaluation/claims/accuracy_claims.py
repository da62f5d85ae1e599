"""The paper's claims about accuracy, put to the test on a run of chosen cells and fresh seeds."""

from __future__ import annotations

import pandas as pd

from tiltcli.evaluation.cells import OVER, UNDER
from tiltcli.evaluation.claims.verdicts import Finding, verdict_of
from tiltcli.evaluation.comparison import Comparison
from tiltcli.statistics import mean_interval, permutation_test

CLAIMS = (
    (UNDER, "train_accuracy", "Underparameterised: dynamical reaches a higher training accuracy"),
    (OVER, "test_accuracy", "Overparameterised: dynamical generalises better"),
)


def accuracy_claims(
    comparison: Comparison, static: pd.DataFrame, dynamical: pd.DataFrame
) -> list[Finding]:
    """Judge both headline claims, each over all the widths of its regime together.

    One test per claim, so that nothing is picked afterwards: a seed's differences are averaged
    over the regime's widths, and the seeds are the sample.

    Args:
        comparison: of static (a) and dynamical (b), one cell per width; gives the regimes.
        static: jobs of side a.
        dynamical: jobs of side b.

    Returns:
        a finding per claim whose regime occurs; the other claims are left out.

    """
    findings = []
    regimes = comparison.rows.groupby("model.width")["regime"].first()
    for regime, metric, claim in CLAIMS:
        widths = [int(width) for width, found in regimes.items() if found == regime]  # type: ignore[call-overload]
        if not widths:
            continue
        per_seed = paired_by_seed(static, dynamical, widths, metric)
        rows = comparison.rows[comparison.rows["metric"] == metric].set_index("model.width")
        each = ", ".join(f"{width}: {rows.loc[width, 'difference']:+.4f}" for width in widths)
        estimate = mean_interval(per_seed)
        findings.append(
            Finding(
                claim,
                verdict_of(estimate),
                f"{metric.replace('_', ' ')}, dynamical − static, mean over the regime's widths "
                f"({each})",
                estimate,
                permutation_test(per_seed),
            )
        )
    return findings


def paired_by_seed(
    static: pd.DataFrame, dynamical: pd.DataFrame, widths: list[int], metric: str
) -> pd.Series[float]:
    """Difference of each seed, averaged over widths; seeds that lack a width are left out.

    Returns:
        differences dynamical − static, indexed by seed.

    """

    def table(jobs: pd.DataFrame) -> pd.DataFrame:
        done = jobs[(jobs["outcome"] == "completed") & jobs["model.width"].isin(widths)]
        return done.pivot_table(index="train.seed", columns="model.width", values=metric)

    difference = table(dynamical) - table(static)
    return difference.reindex(columns=widths).dropna().mean(axis=1)
