"""All findings of the runs in one list, judged and corrected together; every format shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tiltcli.claims import Finding
from tiltcli.claims.accuracy import accuracy_claims
from tiltcli.records import UserError
from tiltcli.report.load import Run
from tiltcli.statistics import holm

RULE = (
    "A claim is held if the 95% interval of the mean difference lies above zero, not held if "
    "it does not reach above zero, and inconclusive otherwise. Intervals are over seeds "
    "(initial weights) on one draw of the data; p is an exact paired permutation test, "
    "corrected (Holm) over the rows of this table."
)

NOTHING = "No run here has one dynamical cell per width beside static: nothing is judged."

UNTESTED = (
    "The claims about curvature (instabilities at λ_max = 2/η, λ_max over the cycles, widening "
    "valleys) are not tested here: this version does not compute curvature."
)


@dataclass(frozen=True)
class Judged:
    """A finding with its run.

    Attributes:
        run: name of the run.
        finding: claim, measurement and verdict.
        p: p-value, corrected (Holm) over all findings of the report; NaN without a test.

    """

    run: str
    finding: Finding
    p: float


def _accuracy(run: Run) -> list[Finding]:
    if not run.judged:
        return []
    try:
        return accuracy_claims(run.comparison(), run.static, run.dynamical)
    except UserError:
        return []  # nothing to pair, and the run's own section says why


JUDGES: tuple[Callable[[Run], list[Finding]], ...] = (_accuracy,)
"""Each looks at a run and returns the findings it has on it, if any."""


def judge(runs: Sequence[Run]) -> list[Judged]:
    """Findings of all runs, in the order of the runs; the correction is over all of them."""
    found = [(run.name, finding) for run in runs for one in JUDGES for finding in one(run)]
    corrected = holm([finding.p for _, finding in found])
    return [
        Judged(name, finding, float(p)) for (name, finding), p in zip(found, corrected, strict=True)
    ]


def notes(judged: Sequence[Judged]) -> list[str]:
    """What must be said with the findings."""
    return [RULE if judged else NOTHING, UNTESTED]
