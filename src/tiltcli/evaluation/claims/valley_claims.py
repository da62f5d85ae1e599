"""The paper's claim about valleys, put to the test by training some pulses again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from tiltcli.analysis.retraining import weights_at
from tiltcli.analysis.traces import Trace
from tiltcli.analysis.valleys import Slicer, line, losses_along, shape_of
from tiltcli.data import dataset_of
from tiltcli.engines.machine import cores
from tiltcli.evaluation.claims import Finding
from tiltcli.evaluation.texts import ranged
from tiltcli.statistics import mean_interval

Array = npt.NDArray[np.float64]

PULSES = 4
"""First pulses of each training that are looked at."""

FARTHER = 4.0
"""How many times farther the line in a random direction goes: it is flatter there."""

OF_F, OF_STATIC, ALONG_RANDOM = range(3)

WIDENS = "Valleys widen to the middle of a pulse, then narrow"
DEEPENS = "Valleys deepen to the middle of a pulse, then rise"


def valley_claims(
    traces: Sequence[Trace], engines: Mapping[str, str], base: str = ""
) -> list[Finding]:
    """Return four findings on how the valley changes through a pulse; none from one training.

    Of each pulse: the width 0.02 above the floor and the floor on a line, at the pulse's begin and
    end (Γ = 1 at both) and in its middle. Along the unit eigenvector of the Hessian's λ_max: of
    F(·, t), whose floor falls by construction where the classes that are not emphasised weigh next
    to nothing, and of the static loss on the same line, which has only what the training did.
    Beside them F along a random direction. The lesser of the two changes counts, so that both must
    hold; it is averaged over a training's pulses, and the trainings are the sample.
    """
    with ThreadPoolExecutor(cores()) as pool:
        each = pool.map(lambda one: pulse_shapes(one, engines[one.job.id]), traces)
        tables = [shapes for shapes in each if len(shapes)]
    if len(tables) < 2:
        return []
    findings = []
    for claim, column, sign, what in ((WIDENS, 0, 1.0, "width"), (DEEPENS, 1, -1.0, "floor")):
        lesser = [
            [
                middle - np.maximum(begin, end)
                for shapes in tables
                for begin, middle, end in [sign * shapes[:, :, which, column].T]
            ]
            for which in (OF_F, OF_STATIC, ALONG_RANDOM)
        ]
        trained = [
            [one[~np.isnan(one)].mean() for one in changes if not np.isnan(one).all()]
            for changes in lesser
        ]
        random = mean_interval(trained[ALONG_RANDOM])
        for which, loss in ((OF_F, "F"), (OF_STATIC, "the static loss")):
            pooled = np.concatenate(lesser[which])
            shapes = np.concatenate(tables)[:, :, which, column]
            begin, middle, end = np.nanmean(shapes, axis=0)
            findings.append(
                Finding.of(
                    claim,
                    f"{what}, the lesser of its changes from begin to middle and from middle to "
                    f"end for {loss}{base}: means {begin:.3f}, {middle:.3f}, {end:.3f}; both as "
                    f"claimed in {(pooled > 0).sum()} of {(~np.isnan(pooled)).sum()} pulses",
                    trained[which],
                    beside=f"of F along a random direction {ranged(random)}",
                )
            )
    return findings


def pulse_shapes(one: Trace, engine: str) -> Array:
    """Width and floor at begin, middle and end of pulses: (pulses, 3, OF_F … ALONG_RANDOM, 2)."""
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
    weights = weights_at(one.job, data, epochs, engine)
    width, base = int(one.job["model.width"]), str(one.job["loss.base"])
    alphas = FARTHER * line()
    shapes = {}
    for shot, cut in zip(weights, Slicer(one.job, data).along(weights), strict=True):
        direction = np.random.default_rng(int(one.job["train.seed"])).normal(size=len(shot.theta))
        direction /= np.linalg.norm(direction)
        groups = shot.gamma.size
        shares = losses_along(shot.theta, direction, alphas, data.train, width, groups, base)
        valleys = (cut.valley, cut.static_valley, shape_of(alphas, shares @ shot.gamma))
        shapes[cut.step] = [(one.width, one.depth) for one in valleys]
    found = [[shapes[step] for step in three] for three in steps]
    return np.array(found, dtype=float).reshape(-1, 3, 3, 2)
