"""All findings of the runs in one list, judged and corrected together; every format shows it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tiltcli.errors import UserError
from tiltcli.evaluation.claims import Finding, Verdict, verdict_of
from tiltcli.evaluation.claims.accuracy_claims import CLAIMS, accuracy_claims
from tiltcli.reports.curvature_verdicts import curvature_findings
from tiltcli.reports.loaded_runs import Run
from tiltcli.statistics import holm

RULE = (
    "A claim is held if both the 95% interval lies above zero (of a share: above one half) and p "
    "is below 0.05, over at least five replicates; not held if both lie below likewise; else it is "
    "inconclusive, as it is where all replicates agree to the last digit. Intervals of mean "
    "differences are Student's, over the replicates that n counts (fresh initial weights, or draws "
    "of the data); p is that of a paired permutation test, exact up to 20 pairs, corrected (Holm) "
    "over the rows of this table; p alone is that before the correction. Intervals of shares are "
    "Wilson's, over the trainings; they have no p, and go by the interval."
)

_CURVATURE = (
    "The claims about curvature (instabilities at λ_max = 2/η, λ_max over the cycles, widening "
    "valleys)"
)

UNPROBED = (
    f"{_CURVATURE} are not tested here: no run of this report was probed. A [probe] table in a "
    "grid file has its curvature measured, and tiltcli probe adds it to a finished run."
)

UNJUDGED = (
    f"{_CURVATURE} are not judged here: the curvature that was probed is shown with its run, "
    "without a verdict: that takes several probed trainings of one setting, over seeds."
)


@dataclass(frozen=True)
class Judged:
    """A finding with its run."""

    run: str  # name of the run
    finding: Finding  # claim and measurement
    p: float  # p-value, corrected (Holm) over all findings of the report; NaN without a test

    @property
    def verdict(self) -> Verdict:
        """Verdict by the corrected p."""
        return verdict_of(self.finding.estimate, self.p, self.finding.against)


def _accuracy(run: Run) -> list[Finding]:
    if not run.judged:
        return []
    try:
        return accuracy_claims(run.comparison())
    except UserError:
        return []  # nothing to pair, and the run's own section says why


JUDGES: tuple[Callable[[Run], list[Finding]], ...] = (_accuracy, curvature_findings)
"""Each looks at a run and returns the findings it has on it, if any."""


def judge(runs: Sequence[Run]) -> list[Judged]:
    """Findings claim by claim as in the paper, then by run; the correction is over all of them."""
    found = [(run.name, finding) for one in JUDGES for run in runs for finding in one(run)]
    claims = list(dict.fromkeys(finding.claim for _, finding in found))
    found.sort(key=lambda one: claims.index(one[1].claim))
    corrected = holm([finding.p for _, finding in found])
    return [
        Judged(name, finding, float(p)) for (name, finding), p in zip(found, corrected, strict=True)
    ]


def _unjudged(runs: Sequence[Run]) -> str:
    """Say why nothing is judged, and what would be."""
    several = [run.name for run in runs if run.has_both and not run.judged]
    if several:
        name = shlex.quote(several[0])
        fresh = shlex.quote(f"{several[0]}-confirm")
        return (
            "Nothing is judged yet: the best of several cells is flattered by the choice as long "
            "as it is seen on the seeds that it was chosen on. What would be judged: the cells "
            f"that validation chose, on fresh seeds. `tiltcli confirm {name} -o {fresh}.toml` "
            f"writes them as a grid (--tune: with the static loss tuned as well); `tiltcli sweep "
            f"{fresh}.toml` and `tiltcli report {name} {fresh}` train and judge it."
        )
    if any(run.has_both for run in runs):
        return "Nothing is judged: nothing here can be paired; each run's own section says why."
    return (
        "Nothing is judged: no run here has both static and dynamical jobs. What would be: one "
        'dynamical cell beside the static loss (loss.kind = ["static", "dynamical"]), over five '
        "seeds or more."
    )


def notes(judged: Sequence[Judged], runs: Sequence[Run]) -> list[str]:
    """Return what must be said with the findings, above all of what there is none."""
    said = [RULE if judged else _unjudged(runs)]
    accuracy = {claim for _, _, claim in CLAIMS}
    if not any(run.probed for run in runs):
        said.append(UNPROBED)
    elif all(one.finding.claim in accuracy for one in judged):
        said.append(UNJUDGED)
    return said
