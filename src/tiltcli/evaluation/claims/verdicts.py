"""What a measurement says of a claim: one rule for all claims."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from tiltcli.statistics import Estimate


class Verdict(StrEnum):
    """What a measurement says of a claim."""

    HELD = "held"
    NOT_HELD = "not held"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Finding:
    """A claim with its measurement.

    Attributes:
        claim: what is claimed.
        verdict: held if the 95% interval lies above `against`, not held if it lies below or is
            equal to it, else inconclusive.
        measured: what the number is.
        estimate: mean difference or share, interval, and sample size.
        p: two-sided exact paired permutation test over the sample; NaN without a test.
        sample: what the sample is made of, in the plural.
        against: what the estimate is held against: 0 for a mean difference, 1/2 for a share.

    """

    claim: str
    verdict: Verdict
    measured: str
    estimate: Estimate
    p: float
    sample: str = "seeds"
    against: float = 0.0

    @property
    def is_share(self) -> bool:
        """Whether the estimate is a share of a whole, not a difference."""
        return self.against > 0


def verdict_of(estimate: Estimate, against: float = 0.0) -> Verdict:
    """Verdict on "the mean is above `against`", by the interval alone."""
    if np.isnan(estimate.low):
        return Verdict.INCONCLUSIVE
    if estimate.low > against:
        return Verdict.HELD
    return Verdict.NOT_HELD if estimate.high <= against else Verdict.INCONCLUSIVE
