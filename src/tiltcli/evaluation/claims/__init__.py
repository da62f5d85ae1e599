"""The paper's claims, each put to the test on runs, with a verdict: one rule for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy.typing as npt

from tiltcli.evaluation.cells import OVER, UNDER
from tiltcli.evaluation.comparison import Comparison
from tiltcli.evaluation.facets import named
from tiltcli.schedule import by_class
from tiltcli.statistics import Estimate, decided, mean_interval, permutation_test


class Verdict(StrEnum):
    """What a measurement says of a claim."""

    HELD = "held"
    NOT_HELD = "not held"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Finding:
    """A claim with its measurement."""

    claim: str  # what is claimed
    measured: str  # what the number is
    estimate: Estimate  # mean difference or share, interval, and sample size
    # two-sided paired permutation test over the sample, of this claim alone; NaN without a test
    p: float
    sample: str = "seeds"  # what the sample is made of, in the plural
    # what the estimate is held against: 0 for a mean difference, 1/2 for a share
    against: float = 0.0
    beside: str = ""  # its null or control, with numbers; empty where `measured` says it all

    @staticmethod
    def of(
        claim: str, measured: str, differences: npt.ArrayLike, beside: str, sample: str = "seeds"
    ) -> Finding:
        """Finding on a mean difference, a number for each of the sample."""
        estimate, p = mean_interval(differences), permutation_test(differences)
        return Finding(claim, measured, estimate, p, sample, beside=beside)

    @property
    def is_share(self) -> bool:
        """Whether the estimate is a share of a whole, not a difference."""
        return self.against > 0

    @property
    def verdict(self) -> Verdict:
        """Verdict on the claim by itself; of claims that are judged together see `verdict_of`."""
        return verdict_of(self.estimate, self.p, self.against)


def verdict_of(estimate: Estimate, p: float, against: float = 0.0) -> Verdict:
    """Return the verdict on "the mean is above `against`".

    Held if it is decided that it is above (see `decided`), not held if it is decided that it is
    below, else inconclusive.
    """
    side = decided(estimate.low, estimate.high, p, estimate.n, against)
    return {1: Verdict.HELD, -1: Verdict.NOT_HELD, 0: Verdict.INCONCLUSIVE}[int(side)]


CLAIMS = (
    (UNDER, "train_accuracy", "Underparameterised: dynamical reaches a higher training accuracy"),
    (OVER, "test_accuracy", "Overparameterised: dynamical generalises better"),
)


def accuracy_claims(comparison: Comparison) -> list[Finding]:
    """Return findings on both headline claims, of each width and value of whatever else varies.

    A mean over widths would hide which of them it is that shows an effect. A loss that is not
    tilted class by class, in turn, is a control, of which nothing is claimed.
    """
    findings = []
    for regime, metric, claim in CLAIMS:
        if metric not in comparison.metrics:
            continue
        rows = comparison.rows[comparison.rows["metric"] == metric].reset_index(drop=True)
        by_draw = comparison.pairs.groupby("row")["by_draw"].any()
        of_rows = by_draw.reindex(rows.index, fill_value=False).tolist()
        for (_, row), draws in zip(rows.iterrows(), of_rows, strict=True):
            if row["regime"] != regime or not by_class(row.to_dict()):
                continue
            where = named({key: row[key] for key in comparison.groups})
            measured = f"{metric.replace('_', ' ')}, dynamical − static"
            measured += f" at {where}" if where else ""
            if lost := int(row["lost_a"] + row["lost_b"]):
                measured += f"; {lost} jobs diverged or failed"
            estimate = Estimate(row["difference"], row["low"], row["high"], int(row["n"]))
            sample = "draws of the data" if draws else "seeds"
            findings.append(Finding(claim, measured, estimate, float(row["p"]), sample))
    return findings
