"""The fair question: methods that are each tuned, on validation, before they are compared.

A *method* is what is compared; it is told apart by a few settings (`loss.kind`, `loss.groups`,
`train.optimizer` …). *Rows* are kept apart by what the experiment is about (network and data).
Everything else is *tuned*: a method is represented, in each row, by the one cell of its own that
validation likes best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tiltcli.errors import Fault, UserError, listing, with_suggestion
from tiltcli.evaluation.cells import REPLICATES, Cells, best, gather, ranked, scores, varying
from tiltcli.grid.settings import METHODS, SETTINGS, tells_rows
from tiltcli.statistics import mean_interval


@dataclass(frozen=True)
class Candidate:
    """A method in one row, and the cell that stands for it."""

    row: Mapping[str, Any]  # settings that tell rows apart, those that vary
    method: Mapping[str, Any]  # settings that tell methods apart
    cells: tuple[int, ...]  # numbers of the cells it tried
    chosen: int | None  # number of the one that validation likes best; None if none has a value
    # number of the chosen one's static partner; None for a static cell, and where the run has none
    partner: int | None
    core_seconds: float  # time that training all of its cells took

    @property
    def name(self) -> str:
        """Name of the method: the values of its settings that apply and are not the default."""
        said = [_said(key, value) for key, value in self.method.items() if _tells(key, value)]
        return ", ".join(said) or "default"


@dataclass(frozen=True)
class Tuning:
    """Methods, each tuned in each row."""

    cells: Cells  # the cells of all methods
    metric: str  # what chose
    methods: tuple[str, ...]  # settings that tell methods apart
    by: tuple[str, ...]  # settings that tell rows apart, of those that vary
    candidates: tuple[Candidate, ...]  # by row, then by method, in the order of the settings


def tune(
    jobs: pd.DataFrame,
    metric: str = "val_accuracy",
    *,
    methods: Sequence[str] = METHODS,
    by: Sequence[str] | None = None,
    metrics: Sequence[str] = (),
) -> Tuning:
    """Return each method's cell in each row."""
    check_named(jobs, metric, methods, by)
    cells = gather(jobs, dict.fromkeys((metric, *metrics)))
    settings = {*cells.outside, *cells.inside}
    rows_by = tuple(k for k in rows_apart(jobs, by) if k in settings and k not in methods)
    seconds = core_seconds(jobs, cells)
    candidates = []
    table = cells.rows
    partners = {int(cell): int(other) for cell, other in table["partner"].items()}  # type: ignore[call-overload]
    for row, in_row in _split(table, rows_by):
        for method, own in _split(in_row, methods):
            chosen = best(of_last_round(own), metric)
            partner = None if chosen is None else partners[chosen]
            if partner in (chosen, -1):
                partner = None
            numbers = tuple(int(n) for n in own.index)
            spent = float(seconds.reindex(numbers).sum())
            candidates.append(Candidate(row, method, numbers, chosen, partner, spent))
    return Tuning(cells, metric, tuple(methods), rows_by, tuple(candidates))


def check_named(
    jobs: pd.DataFrame, metric: str, methods: Sequence[str], by: Sequence[str] | None
) -> None:
    """Refuse what a user names that these jobs cannot be tuned by; for the arguments see `tune`."""
    if faults := [*faults_of_names(jobs, methods, by), *metric_faults(jobs, metric)]:
        raise UserError(*faults)


def faults_of_names(
    jobs: pd.DataFrame, methods: Sequence[str], by: Sequence[str] | None
) -> list[Fault]:
    """What is wrong with the settings named; for the arguments see `tune`."""
    # Nobody asked for the usual ones: where there is one loss alone, it is one method.
    asked = methods if tuple(methods) != METHODS else ()
    faults = [fault for key in asked if (fault := _unfit(jobs, "--methods", key, varies=True))]
    faults += [fault for key in by or () if (fault := _unfit(jobs, "--by", key, varies=False))]
    both = [key for key in by or () if key in methods]
    return [*faults, *(Fault(f"{key} cannot be in --methods too", source="--by") for key in both)]


def metric_faults(jobs: pd.DataFrame, metric: str) -> list[Fault]:
    """What is wrong with a metric that is to choose: that these jobs do not have it."""
    if metric in jobs and jobs[metric].notna().any():
        return []
    results = [str(n) for n in jobs if str(n).endswith(("_accuracy", "_loss"))]
    known = [name for name in results if jobs[name].notna().any()]
    return [Fault(with_suggestion(f"no {metric} in these jobs", metric, known))]


def rows_apart(jobs: pd.DataFrame, by: Sequence[str] | None) -> tuple[str, ...]:
    """Settings of the jobs that tell rows apart: those named, or `BY` and all of the data."""
    if by is not None:
        return tuple(by)
    return tuple(str(name) for name in jobs.columns if tells_rows(str(name)))


def of_last_round(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the cells with at least half as many jobs as the one with the most.

    After a halving (`tiltcli refine`) those that were left behind have the few of an earlier round,
    and of many such means the highest is high by luck.
    """
    kept: npt.NDArray[np.bool_] = (2 * rows["jobs"] >= rows["jobs"].max()).to_numpy()
    return rows[kept]


def replicate_values(cells: Cells, jobs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """What jobs count with by a metric, where they have it: columns cell, draw, seed and value."""
    return pd.DataFrame(
        {
            "cell": cells.of_job.to_numpy(),
            "draw": jobs["data.seed"].to_numpy() if "data.seed" in jobs else 0,
            "seed": jobs["train.seed"].to_numpy(),
            "value": scores(jobs, metric).to_numpy(float),
        }
    ).dropna(subset=["value"])


def core_seconds(jobs: pd.DataFrame, cells: Cells) -> pd.Series[float]:
    """Time that training took, by the number of the cell."""
    return jobs["seconds"].astype(float).groupby(cells.of_job.to_numpy()).sum()


def at_edges(tuning: Tuning, one: Candidate) -> list[str]:
    """Tuned numbers of which the chosen cell has the least or the greatest that was tried."""
    if one.chosen is None:
        return []
    tried = tuning.cells.rows.loc[list(one.cells)]
    found = []
    for key in (*tuning.cells.outside, *tuning.cells.inside):
        if key in (*tuning.methods, *tuning.by) or not pd.api.types.is_numeric_dtype(tried[key]):
            continue
        values = sorted(set(tried[key].dropna()))
        own = tried.loc[one.chosen, key]
        if len(values) > 2 and own in (values[0], values[-1]) and own != 0:
            found.append(key)
    return found


def _unfit(jobs: pd.DataFrame, option: str, key: str, *, varies: bool) -> Fault | None:
    """What is wrong with a setting named by the user; None if it will do."""
    settings = [str(name) for name in jobs.columns if "." in str(name)]
    outside, inside = varying(jobs)
    several = ["loss.kind"] if jobs["loss.kind"].nunique() > 1 else []
    several += [*outside, *inside]
    if key in REPLICATES:
        return Fault(
            f"{key} only repeats the experiment; vary here: {listing(several)}", source=option
        )
    if key not in settings:
        said = with_suggestion(f"no setting {key}", key, several, says="vary here")
        return Fault(said, source=option)
    if varies and key not in several:
        return Fault(
            f"{key} does not vary in these jobs; vary here: {listing(several)}", source=option
        )
    return None


def _split(rows: pd.DataFrame, keys: Sequence[str]) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Rows by their values of some columns, in the order in which these first occur."""
    if not keys:
        return [({}, rows)]
    found = []
    for values, own in rows.groupby(list(keys), dropna=False, sort=False):
        found.append((dict(zip(keys, values, strict=True)), own))
    return found


def _tells(key: str, value: Any) -> bool:
    usual = SETTINGS[key].default if key in SETTINGS and key not in METHODS else None
    return not pd.isna(value) and value != usual


def _said(key: str, value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if isinstance(value, str) and key in METHODS else f"{key.rpartition('.')[2]} {text}"


@dataclass(frozen=True)
class Budget:
    """What a method can be expected to reach, by the number of cells tried."""

    candidate: Candidate  # the method and its row
    tried: npt.NDArray[np.int64]  # numbers of cells k = 1 … n, shape (n,)
    mean: npt.NDArray[np.float64]  # expected value of the reported metric, shape (n,)
    # lower end of its 95% interval over replicates; NaN with fewer than two
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]  # upper end
    replicates: int  # replicates that all cells have


def choice_weights(n: int) -> npt.NDArray[np.float64]:
    """Return the chance that the i-th best of n cells is the best of k drawn without replacement.

    Dodge et al. 2019 (arXiv:1909.03004), by exact order statistics: C(n − i, k − 1) / C(n, k), for
    k = 1 … n (rows) and i = 1 … n (columns); each row sums to 1.
    """
    from scipy.special import gammaln

    def log_choose(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            found = gammaln(a + 1.0) - gammaln(b + 1.0) - gammaln(a - b + 1.0)
        return np.where((b >= 0) & (b <= a), found, -np.inf)

    k, i = np.arange(1, n + 1)[:, None], np.arange(1, n + 1)[None, :]
    weights = np.exp(log_choose(n - i, k - 1) - log_choose(np.full_like(k, n), k))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def budgets(tuning: Tuning, jobs: pd.DataFrame, reported: str = "test_accuracy") -> list[Budget]:
    """Expected value of the cell that validation picks among k tried at random, for every k."""
    if reported not in jobs or jobs[reported].isna().all():
        raise UserError(f"the jobs have no {reported}: their data has no such part")
    rows = tuning.cells.rows
    table = replicate_values(tuning.cells, jobs, reported)
    crossed = table.groupby("cell")["draw"].nunique().max() > 1
    unit = "draw" if crossed else "seed"
    values = table.groupby(["cell", unit])["value"].mean().unstack(unit)
    found = []
    for candidate in tuning.candidates:
        order = ranked(rows.loc[list(candidate.cells)], tuning.metric).index
        own = values.loc[[cell for cell in order if cell in values.index]].dropna(axis=1)
        if own.empty:
            continue
        curves = choice_weights(len(own)) @ own.to_numpy(float)
        estimates = [mean_interval(line) for line in curves]
        found.append(
            Budget(
                candidate,
                np.arange(1, len(own) + 1),
                np.array([e.mean for e in estimates]),
                np.array([e.low for e in estimates]),
                np.array([e.high for e in estimates]),
                own.shape[1],
            )
        )
    return found
