"""The paper's claims, each put to the test on runs, with a verdict."""

from tiltcli.evaluation.claims.verdicts import Finding, Verdict, verdict_of

__all__ = ["Finding", "Verdict", "verdict_of"]
