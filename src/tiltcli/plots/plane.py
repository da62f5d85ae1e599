"""Loss against sharpness: the course of trainings through the plane of both, a curve per cell.

Curves are geometric means over the replicates of a cell and over stretches as long as the longest
pulse, and begin at the first probe; thin lines are over the replicates alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tiltcli.analysis.traces import Trace
from tiltcli.errors import UserError
from tiltcli.plots.curvature import lines_of
from tiltcli.plots.style import PAPER, Look, log_scale

STRETCHES = 150
"""Parts of a training that its curve has a point for, where there are no longer pulses."""

SHARPNESS = "hessian_max_static"


def plane(traces: Sequence[Trace], title: str = "", look: Look = PAPER) -> Figure:
    """Figure of the static loss against its sharpness, as in figure 1 of arXiv:2410.10690."""
    groups = lines_of([one for one in traces if len(one.probes)], len(look.colours), "plane")
    courses = {
        label: found
        for label, members in groups.items()
        if (found := [course for one in members if len(course := _course(one))])
    }
    if not courses:
        raise UserError(
            f"{title}: no probed epoch has both a loss and the sharpness of the static loss; "
            'probe.every must be a multiple of train.log_every, and quantities have "hessian"'
        )
    everyone = [one for members in groups.values() for one in members]
    last = max(int(one.probes["step"].max()) for one in everyone)
    pulses = [one.schedule.pulse for one in everyone if one.schedule]
    stretch = max([*pulses, last // STRETCHES, 1])
    with look.applied():
        figure = look.figure(0.75 * look.width)
        panel = figure.subplots()
        for number, (label, found) in enumerate(courses.items()):
            colour = look.ink if label == "static" else look.colours[number]
            mean = pd.concat(found).groupby(level="step").mean()
            # A last stretch that ends early is of another part of the pulse.
            part = (mean.index.to_numpy() - 1) // stretch
            whole = mean[part < (mean.index[-1] // stretch or 1)]
            coarse = pd.concat([mean.iloc[:1], whole.groupby(part[: len(whole)]).mean()])
            x, y = np.exp(coarse.to_numpy()).T
            panel.plot(*np.exp(mean.to_numpy()).T, color=colour, linewidth=0.4, alpha=0.3)
            panel.plot(x, y, color=colour, linewidth=1.4, label=f"{label}, n = {len(found)}")
            panel.plot(x[0], y[0], "o", color=colour, markerfacecolor="none", markersize=4.5)
            ends = np.exp([one.iloc[-1] for one in found])
            panel.plot(*ends.T, ".", color=colour, markersize=4, alpha=0.6)
        bounds = {(one.bound, one.lr) for one in everyone}
        bound, lr = next(iter(bounds))
        if len(bounds) == 1 and bound is not None and bound.column == "hessian_max":
            height, label = bound.at(lr), bound.formula
            panel.axhline(height, label=label, color=look.grey, linewidth=1.0, linestyle="--")
        log_scale(panel, "x")
        log_scale(panel)
        panel.set_xlabel("static training loss (nat)")
        panel.set_ylabel("λ$_{max}$ of the static loss")
        panel.legend()
        figure.suptitle(f"{title}: loss against sharpness")
        remarks = ["circles: starts", "dots: ends of single trainings"]
        seeds = max(map(len, courses.values()))
        remarks += ["curves: geometric means over seeds and pulses"] if seeds > 1 else []
        lost = len(everyone) - sum(map(len, courses.values()))
        remarks += [f"{lost} trainings have no such probe"] if lost else []
        look.remark(figure, remarks)
    return figure


def _course(one: Trace) -> pd.DataFrame:
    """Logarithms of loss and sharpness by step."""
    if SHARPNESS not in one.probes:
        return pd.DataFrame()
    loss = one.metrics.set_index("step")["train_loss"]
    both = one.probes.set_index("step")[[SHARPNESS]].join(loss, how="inner")
    both = both[["train_loss", SHARPNESS]].astype(float)
    positive = both[(both > 0).all(axis=1)]
    return positive.apply(np.log)
