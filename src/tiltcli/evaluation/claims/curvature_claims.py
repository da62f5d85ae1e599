"""The paper's claims about curvature, put to the test on trainings that were probed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tiltcli.analysis.pulses import Instability, crossings
from tiltcli.analysis.traces import Trace
from tiltcli.evaluation.claims.verdicts import Finding
from tiltcli.statistics import mean_interval, permutation_test, proportion_interval

Array = npt.NDArray[np.float64]

TOLERANCE = 50
"""Steps between an onset and a crossing that count as the same: 1% of the paper's T = 5000."""

BEGIN = "Instabilities begin where λ_max of the current loss crosses 2/η"
DOUBLING = "Instabilities show as period doubling in F(t)"
DOWN = "The oscillation drives λ_max of F down over the cycles"
SETTLED = "The settled network's λ_max is below that of static training"


def instability_claims(traces: Sequence[Trace]) -> list[Finding]:
    """Judge where instabilities begin, and whether they show as period doubling.

    Counted are all onsets, and all crossings that have no onset within a tenth of a period: an
    instability that fails to come counts against the claim as one in the wrong place does. The
    share that begins within 50 steps of a crossing is held against one half.

    Args:
        traces: dynamical trainings; those without single steps, or without λ_max and a bound for
            it, are left out.

    Returns:
        two findings; none from fewer than two trainings.

    """
    kept = [one for one in traces if one.schedule and one.curvature]
    kept = [one for one in kept if one.why_not_single_steps() is None]
    if len(kept) < 2:
        return []
    distances: list[float] = []
    found: list[Instability] = []
    for one in kept:
        own = one.instabilities()
        found += own
        distances += onset_distances(one, own)
    if not found:
        return []
    away = np.array(distances)
    hits = int((np.abs(away) <= TOLERANCE).sum())
    begin = proportion_interval(hits, len(away))
    known = away[np.isfinite(away)]
    alone = int(np.isinf(away).sum())
    spread = (
        f"onset − crossing from {known.min():+.0f} to {known.max():+.0f} steps, median "
        f"{np.median(known):+.0f}"
        if len(known)
        else "no onset has a crossing"
    )
    twice = sum(2 in one.cascade.periods for one in found)
    more = sum((one.cascade.longest or 0) > 2 for one in found)
    irregular = sum(one.cascade.irregular for one in found)
    doubling = proportion_interval(twice, len(found))
    half = 0.5
    return [
        Finding(
            BEGIN,
            f"share of onsets within {TOLERANCE} steps of the crossing: {hits} of {len(away)} in "
            f"{len(kept)} trainings; {spread}; {alone} without a partner",
            begin,
            np.nan,
            "onsets",
            half,
        ),
        Finding(
            DOUBLING,
            f"share of instabilities in which F repeats after 2 steps; it goes on to period 4, 8 "
            f"or 16 in {more} of {len(found)}, and becomes irregular in {irregular}",
            doubling,
            np.nan,
            "instabilities",
            half,
        ),
    ]


def onset_distances(one: Trace, found: Sequence[Instability]) -> list[float]:
    """Return onset − nearest crossing, steps, of each instability; infinite without a partner.

    A crossing without an onset within a tenth of a period adds an infinity of its own, unless the
    training ends so soon after it.
    """
    assert one.curvature is not None
    assert one.schedule is not None
    reach = one.schedule.period / 10
    crossed = crossings(one.curvature)
    onsets = [each.onset for each in found]
    last = int(one.metrics["step"].max())
    distances = []
    for onset in onsets:
        nearest = min(crossed, key=lambda step: abs(step - onset), default=None)
        near = nearest is not None and abs(nearest - onset) <= reach
        distances.append(float(onset - nearest) if near and nearest is not None else np.inf)
    for crossing in crossed:
        inside = crossing + reach <= last
        if inside and not any(abs(crossing - onset) <= reach for onset in onsets):
            distances.append(np.inf)
    return distances


def lambda_claims(traces: Sequence[Trace]) -> list[Finding]:
    """Judge λ_max over the cycles, and of the settled network against static training.

    Over the cycles: per training the least-squares slope of ln λ_max of F(·, t), averaged over the
    probes of each pulse, against the pulse's number. Settled: per seed ln λ_max of the static
    loss, averaged over the probes after the oscillation has ended, static − dynamical.

    Args:
        traces: trainings of one setting of the loss, over seeds, and static ones; those without
            probes are left out.

    Returns:
        a finding per claim that can be judged: over the cycles in whole trainings, which settle,
        of at least three pulses; settled with static trainings of the same seeds.

    """
    probed = [one for one in traces if len(one.probes) and "hessian_max" in one.probes]
    dynamical = [one for one in probed if one.schedule]
    findings = []
    whole = [one for one in dynamical if one.schedule and one.schedule.settled_from is not None]
    by_pulse = [values for one in whole if len(values := pulse_means(one)) >= 3]
    if len(by_pulse) >= 2:
        pulses = min(map(len, by_pulse))
        table = np.array([values[:pulses] for values in by_pulse])
        falls = [-float(np.polyfit(np.arange(pulses), row, 1)[0]) for row in table]
        means = np.exp(table.mean(axis=0))
        peak = int(np.argmax(means))
        estimate = mean_interval(falls)
        findings.append(
            Finding(
                DOWN,
                f"fall of ln λ_max of F per pulse, slope over {pulses} pulses; geometric means: "
                f"first pulse {means[0]:.2f}, highest {means[peak]:.2f} (pulse {peak + 1}), last "
                f"{means[-1]:.2f}",
                estimate,
                permutation_test(falls),
            )
        )
    pairs = settled_pairs(dynamical, [one for one in probed if not one.schedule])
    if len(pairs) >= 2:
        logs = np.array(pairs)
        estimate = mean_interval(logs[:, 0] - logs[:, 1])
        static, tilted = np.exp(logs.mean(axis=0))
        findings.append(
            Finding(
                SETTLED,
                "ln λ_max of the static loss, static − dynamical, mean over the settled steps; "
                f"geometric means {static:.2f} and {tilted:.2f}",
                estimate,
                permutation_test(logs[:, 0] - logs[:, 1]),
            )
        )
    return findings


def pulse_means(one: Trace) -> Array:
    """Mean of ln λ_max of F(·, t) over the probes of each full pulse, in order."""
    assert one.schedule is not None
    pulse, settled = one.schedule.pulse, one.schedule.settled_from
    end = int(one.metrics["step"].max()) + 1
    count = (end if settled is None else min(settled, end)) // pulse
    probes = one.probes[one.probes["hessian_max"] > 0]
    logs = np.log(probes["hessian_max"].to_numpy(float))
    number = probes["step"].to_numpy(np.int64) // pulse
    means = [logs[number == k].mean() for k in range(count) if (number == k).any()]
    return np.array(means)


def settled_pairs(dynamical: Sequence[Trace], static: Sequence[Trace]) -> list[tuple[float, float]]:
    """Mean of ln λ_max of the static loss after the settling, (static, dynamical), by seed."""
    partners = {_without_loss(one): one for one in static}
    pairs = []
    for one in dynamical:
        partner = partners.get(_without_loss(one))
        settled = one.schedule.settled_from if one.schedule else None
        if partner is None or settled is None:
            continue
        both = [_mean_log(each, settled) for each in (partner, one)]
        if not np.isnan(both).any():
            pairs.append((both[0], both[1]))
    return pairs


def _without_loss(one: Trace) -> tuple[tuple[str, str], ...]:
    kept = {k: str(v) for k, v in one.job.settings.items() if not k.startswith("loss.")}
    return tuple(sorted(kept.items()))


def _mean_log(one: Trace, begin: int) -> float:
    probes = one.probes[(one.probes["step"] >= begin) & (one.probes["hessian_max_static"] > 0)]
    values = probes["hessian_max_static"].to_numpy(float)
    return float(np.log(values).mean()) if len(values) else float("nan")
