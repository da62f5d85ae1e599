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
        verdict: held if the 95% interval lies above zero, not held if it lies below or is zero,
            else inconclusive.
        measured: what the number is.
        estimate: mean difference, interval, and sample size.
        p: two-sided exact paired permutation test over the sample; NaN without a test.
        sample: what the sample is made of, in the plural.

    """

    claim: str
    verdict: Verdict
    measured: str
    estimate: Estimate
    p: float
    sample: str = "seeds"


def verdict_of(estimate: Estimate) -> Verdict:
    """Verdict on "the mean is above zero", by the interval alone."""
    if np.isnan(estimate.low):
        return Verdict.INCONCLUSIVE
    if estimate.low > 0:
        return Verdict.HELD
    return Verdict.NOT_HELD if estimate.high <= 0 else Verdict.INCONCLUSIVE
