"""The paper's claims about accuracy, put to the test on a run of chosen cells and fresh seeds."""

from __future__ import annotations

from tiltcli.evaluation.cells import OVER, UNDER
from tiltcli.evaluation.claims import Finding
from tiltcli.evaluation.comparison import Comparison
from tiltcli.evaluation.facets import named
from tiltcli.schedule import by_class
from tiltcli.statistics import Estimate

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
