"""The paper's claims, each put to the test on runs, with a verdict: one rule for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy.typing as npt

from tiltcli.evaluation.decision import decided
from tiltcli.statistics import Estimate, mean_interval, permutation_test


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
