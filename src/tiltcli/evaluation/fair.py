"""Should one tilt, and is it the tilting? Tuned methods beside each other, on replicates.

What is compared: each tilted method with the best of all tuned static ones and, where that is
another, with the static loss tuned with the same optimiser; with its *static partner*, the static
loss at the tilted cell's own other settings, so that a gain of the learning rate is not taken for
one of tilting; and, where there are controls that know no class, tilting by class with each.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tiltcli.evaluation.cells import replicate_values
from tiltcli.evaluation.texts import p_value
from tiltcli.evaluation.tuning import Candidate, Tuning
from tiltcli.schedule import by_class
from tiltcli.statistics import (
    Estimate,
    decided,
    holm,
    mean_interval,
    permutation_tests,
    replicates_for_power,
)


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


def _judged(tuning: Tuning, one: Candidate) -> float:
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
        best = max(static, key=lambda one: _judged(tuning, one), default=None)
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


def in_words(tuning: Tuning, found: Sequence[Contest], metric: str) -> list[str]:
    """Return a paragraph for each row: whether tilting helps, and whether it is the tilting."""
    said = metric.replace("_", " ")
    paragraphs = []
    for row, together in tuning.rows:
        asked = {
            question: [one for one in found if one.question is question and one.row == row]
            for question in Question
        }
        against = asked[Question.BEST_STATIC]
        if not against:
            continue
        where = (
            ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in row.items()) or "here"
        )
        real = {one.method for one in asked[Question.PARTNER] if one.decided > 0}
        helps = [one for one in against if one.decided > 0 and one.method in real]
        top = max(helps or against, key=lambda one: one.difference.mean)
        interval = (
            f"{top.difference.mean:+.4f} (n = {top.difference.n}, 95% interval "
            f"{top.difference.low:+.4f} … {top.difference.high:+.4f}, corrected p "
            f"{p_value(top.p_corrected)})"
        )
        rival = f"the best tuned static loss ({top.other})"
        if helps:
            verdict = f"tilting ({top.method}) raises {said} by {interval} over {rival}"
        elif all(one.decided < 0 for one in against):
            verdict = f"tilting lowers {said}: at best {interval} with {top.method} against {rival}"
        else:
            verdict = (
                f"tilting is not shown to raise {said} over {rival}: at best {interval} "
                f"with {top.method}"
            )
        sentences = [f"At {where}: {verdict}."]
        sentences += _same_optimiser(asked[Question.TUNED], real, helps=bool(helps))
        sentences += _controls(asked[Question.CLASS])
        if metric.startswith("test"):
            best = max(together, key=lambda one: _judged(tuning, one))
            mean = tuning.cells.estimate(best.chosen, metric).mean
            sentences.append(f"Validation likes {best.name} best: {mean:.4f} on the test set.")
        paragraphs.append(" ".join(sentences))
    return paragraphs


def _same_optimiser(found: Sequence[Contest], real: Collection[str], *, helps: bool) -> list[str]:
    """Say which methods beat the static loss tuned with the same optimiser, if any is another."""
    won = [one for one in found if one.decided > 0 and one.method in real]
    if not found or (helps and not won):
        return []
    if not won:
        return ["No tilted method is shown to beat the static loss tuned with its optimiser."]
    each = (f"{one.method} {one.difference.mean:+.4f} over {one.other}" for one in won)
    return [f"Against the static loss tuned with the same optimiser it does: {'; '.join(each)}."]


def _controls(found: Sequence[Contest]) -> list[str]:
    """Say which controls tilting by class, in turn, is shown to beat."""
    if not found:
        return []
    won, lost = (
        [f"{one.other} ({one.difference.mean:+.4f})" for one in found if side * one.decided > 0]
        for side in (1, -1)
    )
    count = f"{len(found)} control{'s' * (len(found) > 1)}"
    text = f"Is it the class? Of {count} the classes in turn are shown to beat "
    text += ", ".join(won) or "none"
    return [f"{text}, and fall behind {', '.join(lost)}." if lost else f"{text}."]
