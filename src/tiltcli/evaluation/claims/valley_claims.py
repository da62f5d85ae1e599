"""The paper's claim about valleys, put to the test by training some pulses again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from tiltcli.analysis.retraining import weights_at
from tiltcli.analysis.slices import Slicer
from tiltcli.analysis.traces import Trace
from tiltcli.data import dataset_of
from tiltcli.engines.machine import cores
from tiltcli.evaluation.claims.verdicts import Finding
from tiltcli.statistics import mean_interval, permutation_test

Array = npt.NDArray[np.float64]

PULSES = 4
"""First pulses of each training that are looked at."""

WIDENS = "Valleys widen to the middle of a pulse, then narrow"
DEEPENS = "Valleys deepen to the middle of a pulse, then rise"


def valley_claims(traces: Sequence[Trace], engines: Mapping[str, str]) -> list[Finding]:
    """Judge how the valley changes through a pulse.

    Of each pulse: the width 0.02 above the floor and the floor F_min of F along the unit
    eigenvector of its Hessian's λ_max, at the pulse's begin and end (Γ = 1 at both) and in its
    middle. The lesser of the two changes counts, so that both must hold; it is averaged over a
    training's pulses, and the trainings are the sample.

    Args:
        traces: dynamical trainings, full-batch and of one hidden layer, over seeds.
        engines: the engine that trained each job, by its id.

    Returns:
        two findings; none from fewer than two trainings that have a full pulse.

    """
    with ThreadPoolExecutor(cores()) as pool:
        each = pool.map(lambda one: pulse_shapes(one, engines[one.job.id]), traces)
        tables = [shapes for shapes in each if len(shapes)]
    if len(tables) < 2:
        return []
    findings = []
    for claim, column, sign, what, unit in (
        (WIDENS, 0, 1.0, "width", ""),
        (DEEPENS, 1, -1.0, "floor F_min", " nat"),
    ):
        lesser = [
            sign * shapes[:, 1, column]
            - np.maximum(sign * shapes[:, 0, column], sign * shapes[:, 2, column])
            for shapes in tables
        ]
        pooled = np.concatenate(lesser)
        known = ~np.isnan(pooled)
        begin, middle, end = np.nanmean(np.concatenate(tables)[:, :, column], axis=0)
        per_training = [float(np.nanmean(one)) for one in lesser if not np.isnan(one).all()]
        estimate = mean_interval(per_training)
        findings.append(
            Finding(
                claim,
                f"{what}, the lesser of its changes from begin to middle and from middle to end; "
                f"means {begin:.3f}, {middle:.3f}, {end:.3f}{unit}; both as claimed in "
                f"{int((pooled > 0).sum())} of {int(known.sum())} pulses",
                estimate,
                permutation_test(per_training),
            )
        )
    return findings


def pulse_shapes(one: Trace, engine: str) -> Array:
    """Width and floor of the valley at begin, middle and end of the first pulses.

    Args:
        one: a dynamical training.
        engine: that trained it.

    Returns:
        shape (pulses, 3, 2); NaN where the valley has no width on the line.

    """
    schedule = one.schedule
    assert schedule is not None
    last = int(one.metrics["step"].max())
    if schedule.settled_from is not None:
        last = min(last, schedule.settled_from)
    begins = [k * schedule.pulse for k in range(PULSES)]
    steps = [
        (begin, begin + schedule.period // 2, begin + schedule.period)
        for begin in begins
        if begin + schedule.period <= last
    ]
    data = dataset_of(one.job)
    epochs = sorted({step for three in steps for step in three})
    cuts = Slicer(one.job, data).along(weights_at(one.job, data, epochs, engine))
    shapes = {cut.step: (cut.valley.width, cut.valley.depth) for cut in cuts}
    return np.array([[shapes[step] for step in three] for three in steps], dtype=float)
