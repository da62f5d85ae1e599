"""The fair question: methods that are each tuned, on validation, before they are compared.

A *method* is what is compared; it is told apart by a few settings (`loss.kind`, `loss.groups`,
`train.optimizer` …). *Rows* are kept apart by what the experiment is about (network and data).
Everything else is *tuned*: a method is represented, in each row, by the one cell of its own that
validation likes best.

Then each tilted method is held against the best of all tuned static ones and, where that is
another, against the static loss tuned with the same optimiser; against its *static partner*, the
static loss at the tilted cell's own other settings, so that a gain of the learning rate is not
taken for one of tilting; and, where there are controls that know no class, tilting by class against
each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tiltcli.errors import Fault, UserError, listing, with_suggestion
from tiltcli.evaluation.cells import (
    REPLICATES,
    Cells,
    best,
    gather,
    ranked,
    replicate_values,
    results_of,
    split,
    varying,
)
from tiltcli.grid.settings import METHODS, SETTINGS, tells_rows
from tiltcli.schedule import by_class
from tiltcli.statistics import (
    Estimate,
    decided,
    holm,
    mean_interval,
    permutation_tests,
    replicates_for_power,
)


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
        said = []
        for key, value in self.method.items():
            usual = SETTINGS[key].default if key in SETTINGS and key not in METHODS else None
            if not pd.isna(value) and value != usual:
                text = f"{value:g}" if isinstance(value, float) else str(value)
                plain = key in METHODS and isinstance(value, str)
                said.append(text if plain else f"{key.rpartition('.')[2]} {text}")
        return ", ".join(said) or "default"


@dataclass(frozen=True)
class Tuning:
    """Methods, each tuned in each row."""

    cells: Cells  # the cells of all methods
    metric: str  # what chose
    methods: tuple[str, ...]  # settings that tell methods apart
    by: tuple[str, ...]  # settings that tell rows apart, of those that vary
    candidates: tuple[Candidate, ...]  # by row, then by method, in the order of the settings

    @property
    def tuned(self) -> list[str]:
        """Settings that vary and tell neither methods nor rows apart."""
        varying = (*self.cells.outside, *self.cells.inside)
        return [key for key in varying if key not in (*self.methods, *self.by)]

    @property
    def rows(self) -> list[tuple[Mapping[str, Any], list[Candidate]]]:
        """Each row with its methods, those that have a chosen cell."""
        chosen = (one for one in self.candidates if one.chosen is not None)
        return [(row, list(own)) for row, own in groupby(chosen, lambda one: one.row)]


def tune(
    jobs: pd.DataFrame,
    metric: str = "val_accuracy",
    *,
    methods: Sequence[str] = METHODS,
    by: Sequence[str] | None = None,
    metrics: Sequence[str] = (),
) -> Tuning:
    """Return each method's cell in each row."""
    if faults := [*faults_of_names(jobs, methods, by), *metric_faults(jobs, metric)]:
        raise UserError(*faults)
    cells = gather(jobs, dict.fromkeys((metric, *metrics)))
    settings = {*cells.outside, *cells.inside}
    rows_by = tuple(k for k in rows_apart(jobs, by) if k in settings and k not in methods)
    seconds = core_seconds(jobs, cells)
    candidates = []
    partners = cells.rows["partner"].to_dict()
    for row, in_row in split(cells.rows, rows_by, sort=False):
        for method, own in split(in_row, methods, sort=False):
            chosen = best(of_last_round(own), metric)
            partner = partners.get(chosen, -1)
            numbers = tuple(own.index.tolist())
            candidates.append(
                Candidate(
                    row,
                    method,
                    numbers,
                    chosen,
                    None if partner in (chosen, -1) else partner,
                    float(seconds.reindex(numbers).sum()),
                )
            )
    return Tuning(cells, metric, tuple(methods), rows_by, tuple(candidates))


def faults_of_names(
    jobs: pd.DataFrame, methods: Sequence[str], by: Sequence[str] | None
) -> list[Fault]:
    """What is wrong with settings that a user named to tell methods and rows apart."""
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
    known = [name for name in results_of(jobs) if jobs[name].notna().any()]
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
    kept: pd.DataFrame = rows.loc[2 * rows["jobs"] >= rows["jobs"].max()]
    return kept


def core_seconds(jobs: pd.DataFrame, cells: Cells) -> pd.Series[float]:
    """Time that training took, by the number of the cell."""
    return jobs["seconds"].astype(float).groupby(cells.of_job.to_numpy()).sum()


def at_edges(tuning: Tuning, one: Candidate) -> list[str]:
    """Tuned numbers of which the chosen cell has the least or the greatest that was tried."""
    if one.chosen is None:
        return []
    tried = tuning.cells.rows.loc[list(one.cells)]
    found = []
    for key in tuning.tuned:
        if not pd.api.types.is_numeric_dtype(tried[key]):
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
    several = ["loss.kind"] * (jobs["loss.kind"].nunique() > 1) + [*outside, *inside]
    if key in REPLICATES:
        said = f"{key} only repeats the experiment; vary here: {listing(several)}"
    elif key not in settings:
        said = with_suggestion(f"no setting {key}", key, several, says="vary here")
    elif varies and key not in several:
        said = f"{key} does not vary in these jobs; vary here: {listing(several)}"
    else:
        return None
    return Fault(said, source=option)


@dataclass(frozen=True)
class Budget:
    """What a method can be expected to reach, by the number of cells tried."""

    candidate: Candidate  # the method and its row
    expected: list[Estimate]  # of the reported metric over replicates, for k = 1 … n cells
    replicates: int  # replicates that all cells have


def choice_weights(n: int) -> npt.NDArray[np.float64]:
    """Return the chance that the i-th best of n cells is the best of k drawn without replacement.

    Dodge et al. 2019 (arXiv:1909.03004), by exact order statistics: C(n − i, k − 1) / C(n, k), for
    k = 1 … n (rows) and i = 1 … n (columns); each row sums to 1.
    """
    from scipy.special import gammaln

    k, i = np.arange(1.0, n + 1)[:, None], np.arange(1.0, n + 1)[None, :]
    # Of the logarithms of C(n − i, k − 1) what depends on i; gammaln of 0 is infinite.
    logs = gammaln(n - i + 1) - gammaln(np.maximum(n - i - k + 2, 0))
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
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
        lines = choice_weights(len(own)) @ own.to_numpy(float)
        found.append(Budget(candidate, [mean_interval(line) for line in lines], own.shape[1]))
    return found


class Question(StrEnum):
    """What a contest asks."""

    TUNED = "better than the static loss tuned with the same optimiser?"
    BEST_STATIC = "better than the best tuned static loss?"
    PARTNER = "better than the static loss at its own other settings?"
    CLASS = "better than the control?"


@dataclass(frozen=True)
class Contest:
    """Two cells of one row, compared replicate by replicate."""

    question: Question  # what is asked
    row: Mapping[str, Any]  # settings that tell rows apart
    method: str  # the one that is asked about
    other: str  # what it is held against
    difference: Estimate  # of the metric, method − other, with its 95% interval and n
    p: float  # permutation test over the replicates; NaN without pairs
    p_corrected: float  # Holm's, over the contests of the same question and metric
    decided: int  # 1 better, −1 worse, 0 undecided; see `tiltcli.statistics`
    lost: tuple[int, int]  # jobs that diverged or failed, of the method and of the other
    needed: float  # replicates with which such a difference would be shown in four of five cases


def judged(tuning: Tuning, one: Candidate) -> float:
    """What chose the cell of a candidate, so that more is better."""
    sign = -1.0 if tuning.metric.endswith("loss") else 1.0
    return sign * tuning.cells.estimate(one.chosen, tuning.metric).mean


def contests(tuning: Tuning, jobs: pd.DataFrame, metric: str) -> list[Contest]:
    """Hold every tilted method against what it has to beat; see the module's text."""
    values = replicate_values(tuning.cells, jobs, metric)
    lost = tuning.cells.rows["lost"].astype(int).to_dict()
    asked = list(_asked(tuning))
    found: list[Contest] = []
    for question in Question:
        own = [(one, cell, name) for what, one, cell, name in asked if what is question]
        samples = [_differences(values, one.chosen, cell) for one, cell, _ in own]
        ps = permutation_tests(samples)
        for (one, cell, name), sample, p, p_corrected in zip(
            own, samples, ps, holm(ps), strict=True
        ):
            estimate = mean_interval(sample)
            spread = float(np.std(sample, ddof=1)) if len(sample) > 1 else np.nan
            verdict = decided(estimate.low, estimate.high, p_corrected, estimate.n)
            found.append(
                Contest(
                    question,
                    one.row,
                    one.name,
                    name,
                    estimate,
                    float(p),
                    float(p_corrected),
                    int(verdict),
                    (lost[one.chosen], lost[cell]),
                    float(replicates_for_power(estimate.mean, spread, len(own))),
                )
            )
    return found


def _asked(tuning: Tuning) -> Iterator[tuple[Question, Candidate, int | None, str]]:
    """Question and method; cell and name of what it is held against."""
    stills = set(tuning.cells.rows.index[tuning.cells.rows["static"]])
    for _, together in tuning.rows:
        static = [one for one in together if one.chosen in stills]
        tilted = [one for one in together if one.chosen not in stills]
        best = max(static, key=lambda one: judged(tuning, one), default=None)
        for one in tilted:
            same = [other for other in static if _alike(one, other)]
            if same and same[0] is not best:
                yield Question.TUNED, one, same[0].chosen, same[0].name
            if best is not None:
                yield Question.BEST_STATIC, one, best.chosen, best.name
            if one.partner is not None:
                yield Question.PARTNER, one, one.partner, f"static at {one.name}'s settings"
            for other in tilted if by_class(one.method) else ():
                if not by_class(other.method) and _alike(one, other):
                    yield Question.CLASS, one, other.chosen, other.name


def _alike(one: Candidate, other: Candidate) -> bool:
    """Whether two methods differ in the loss alone."""
    return all(
        value == other.method[key] or (pd.isna(value) and pd.isna(other.method[key]))
        for key, value in one.method.items()
        if not key.startswith("loss.")
    )


def _differences(values: pd.DataFrame, a: int | None, b: int | None) -> npt.NDArray[np.float64]:
    """One difference per replicate: per draw where there are several, else per seed."""
    one, other = (values[values["cell"] == cell] for cell in (a, b))
    pairs = one.merge(other, on=["draw", "seed"], suffixes=("", ":other"))
    difference = pairs["value"] - pairs["value:other"]
    unit = "draw" if pairs["draw"].nunique() > 1 else "seed"
    return np.asarray(difference.groupby(pairs[unit]).mean().to_numpy(float))
