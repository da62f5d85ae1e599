"""The paper's claims about λ_max along a training, held against static and class-blind training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tiltcli.analysis.traces import Trace
from tiltcli.evaluation.cells import REPLICATES
from tiltcli.evaluation.claims import Finding
from tiltcli.evaluation.texts import ranged
from tiltcli.schedule import Schedule
from tiltcli.statistics import Estimate, mean_interval

Array = npt.NDArray[np.float64]
Pairs = Sequence[tuple[float, float]]

BIN = np.log(2) / 2
"""Width of a bin of ln L: training losses within a factor of √2 count as equal."""

DOWN = "The oscillation drives λ_max of F down over the cycles"
MATCHED = "At the same training loss the static loss is less curved where the oscillation led"
SETTLED = "The settled network's λ_max is below that of training without the tilt"


def lambda_claims(
    tilted: Sequence[Trace], controls: Mapping[str, Sequence[Trace]], base: str = ""
) -> list[Finding]:
    """Return findings on λ_max along trainings, pair by pair with controls of the same seeds.

    Over the cycles: the fall of ln λ_max of F(·, t), averaged over the probes of each pulse of the
    tilted training, per pulse (least squares), tilted − control, of at least three pulses. At
    matched loss: ln λ_max of the static loss, control − tilted, see `matched`. Settled: ln λ_max of
    the static loss, averaged over the probes after the oscillation has ended, control − tilted.
    None from fewer than two trainings that settle.
    """
    own = {
        _replicate(one): one for one in _probed(tilted) if _schedule(one).settled_from is not None
    }
    partners = {
        name: [(own[key], one) for one in _probed(some) if (key := _replicate(one)) in own]
        for name, some in controls.items()
    }
    if len(own) < 2:
        return []
    findings = []
    means = [pulse_means(one, _schedule(one)) for one in own.values()]
    pulses = min(map(len, means))
    if pulses >= 3:
        falls = {name: _falls(some, pulses) for name, some in partners.items()}
        course = _course(np.array([values[:pulses] for values in means]))
        what = "fall of ln λ_max of F per pulse, slope, dynamical − control against "
        what += f"{{}}{base}: {course}"
        findings += _judged(DOWN, what, 1, falls, lambda x: f"{x:.3f}")
    both = {name: [matched(a, b) for a, b in some] for name, some in partners.items()}
    bins = [one[2] for some in both.values() for one in some] or [0]
    what = (
        "ln λ_max of the static loss at matched training loss, control − dynamical against "
        f"{{}}{base}: {np.mean(bins):.0f} bins of loss shared by a pair, on average"
    )
    alike = {name: [one[:2] for one in some] for name, some in both.items()}
    findings += _judged(MATCHED, what, -1, alike, _geometric)
    what = (
        "ln λ_max of the static loss, mean over the settled steps, control − dynamical against "
        f"{{}}{base}"
    )
    late = {
        name: [(_settled_log(a, _schedule(a)), _settled_log(b, _schedule(a))) for a, b in some]
        for name, some in partners.items()
    }
    return findings + _judged(SETTLED, what, -1, late, _geometric)


def _judged(
    claim: str, what: str, sign: int, pairs: Mapping[str, Pairs], shown: Callable[[float], str]
) -> list[Finding]:
    """Return a finding on the mean difference, tilted − control, for each control that there is."""
    known = {name: [p for p in some if not np.isnan(p).any()] for name, some in pairs.items()}
    missing = [name for name, some in known.items() if len(some) < 2]
    lacking = f"no {' and no '.join(missing)} trainings of the same seeds" if missing else ""
    if len(missing) == len(known):
        nothing = Estimate(np.nan, np.nan, np.nan, 0)
        lacking = f"nothing to judge by: {lacking}"
        return [Finding(claim, what.format("none"), nothing, np.nan, beside=lacking)]
    findings = []
    for name, some in known.items():
        if name in missing:
            continue
        tilted, control = np.array(some).T
        differences = sign * (tilted - control)
        beside = f"dynamical {shown(tilted.mean())}, {name} {shown(control.mean())}"
        beside = "; ".join(filter(None, [beside, lacking]))
        findings.append(Finding.of(claim, what.format(name), differences, beside=beside))
    return findings


def _course(logs: Array) -> str:
    """How ln λ_max, shape (trainings, pulses), rises and falls."""
    means = np.exp(logs.mean(axis=0))
    peak = int(np.argmax(means))
    rise, fall = (
        ranged(Estimate(np.exp(found.mean), np.exp(found.low), np.exp(found.high), found.n))
        for found in (mean_interval(logs[:, peak] - logs[:, end]) for end in (0, -1))
    )
    return (
        f"over {logs.shape[1]} pulses its geometric mean goes from {means[0]:.2f} to "
        f"{means[peak]:.2f} in pulse {peak + 1}, a rise × {rise}, and to {means[-1]:.2f} in the "
        f"last, a fall ÷ {fall}"
    )


def _falls(pairs: Sequence[tuple[Trace, Trace]], pulses: int) -> Pairs:
    """Fall per pulse of the tilted training and of its partner, over the same pulses."""
    found = []
    for one, other in pairs:
        both = [pulse_means(each, _schedule(one))[:pulses] for each in (one, other)]
        if min(map(len, both)) == pulses:
            x = np.arange(pulses)
            a, b = (-float(np.polyfit(x, values, 1)[0]) for values in both)
            found.append((a, b))
    return found


def pulse_means(one: Trace, schedule: Schedule) -> Array:
    """Mean of ln λ_max of F over the probes of each full pulse, in order."""
    pulse, settled = schedule.pulse, schedule.settled_from
    end = int(one.metrics["step"].max()) + 1
    count = (end if settled is None else min(settled, end)) // pulse
    probes = one.probes[one.probes["hessian_max"] > 0]
    logs = np.log(probes["hessian_max"].to_numpy(float))
    number = probes["step"].to_numpy(np.int64) // pulse
    means = [logs[number == k].mean() for k in range(count) if (number == k).any()]
    return np.array(means)


def matched(a: Trace, b: Trace) -> tuple[float, float, int]:
    """Return the mean ln λ_max of two trainings' static loss at equal losses, and the bins used.

    A probe's training loss L is interpolated, linearly in ln L, between the logged steps. The
    probes of each training are averaged in bins of ln L (floor(ln L / ln √2) is the bin), and the
    bins that both have are averaged with equal weights; NaN without one.
    """
    one, other = _by_loss(a), _by_loss(b)
    bins = sorted(one.keys() & other.keys())
    if not bins:
        return np.nan, np.nan, 0
    means = [float(np.mean([found[k] for k in bins])) for found in (one, other)]
    return means[0], means[1], len(bins)


def _by_loss(one: Trace) -> dict[int, float]:
    probes = one.probes[one.probes["hessian_max_static"] > 0]
    losses = one.metrics[one.metrics["train_loss"] > 0]
    ln_loss = np.interp(
        probes["step"].to_numpy(float),
        losses["step"].to_numpy(float),
        np.log(losses["train_loss"].to_numpy(float)),
    )
    bins = np.floor(ln_loss / BIN).astype(np.int64)
    logs = np.log(probes["hessian_max_static"].to_numpy(float))
    return {int(k): float(logs[bins == k].mean()) for k in np.unique(bins)}


def _settled_log(one: Trace, schedule: Schedule) -> float:
    assert schedule.settled_from is not None
    late = one.probes["step"] >= schedule.settled_from
    probes = one.probes[late & (one.probes["hessian_max_static"] > 0)]
    values = probes["hessian_max_static"].to_numpy(float)
    return float(np.log(values).mean()) if len(values) else float("nan")


def _geometric(log: float) -> str:
    return f"{np.exp(log):.2f}"


def _probed(traces: Sequence[Trace]) -> list[Trace]:
    return [one for one in traces if len(one.probes) and "hessian_max" in one.probes]


def _schedule(one: Trace) -> Schedule:
    assert one.schedule is not None
    return one.schedule


def _replicate(one: Trace) -> tuple[str, ...]:
    return tuple(str(one.job.get(name)) for name in REPLICATES)
