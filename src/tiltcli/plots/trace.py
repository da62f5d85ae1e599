"""One training through time: weights, losses, accuracy, and curvature where it was probed.

The figure of the paper (its Fig. 4), with the instabilities marked and one of them enlarged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tiltcli.analysis.pulses import Instability, Window, richest, window_around
from tiltcli.analysis.thinning import thin
from tiltcli.analysis.traces import Trace
from tiltcli.errors import UserError
from tiltcli.plots.gamma import class_label
from tiltcli.plots.style import PAPER, Look, log_scale

MOST_PULSES = 120
"""Pulses that can be told apart in a panel."""

MOST_POINTS = 6000
"""Logged steps of a part up to which each is drawn as a point."""


def trace(one: Trace, zoom: Window | None = None, look: Look = PAPER) -> Figure:
    """Return panels over a common step axis; with `zoom`, a second column for these steps."""
    steps = one.metrics["step"].dropna()
    if not len(steps):
        raise UserError("the run's metrics have no row of this job: nothing to draw")
    if zoom is not None and not steps.between(*zoom).sum() > 1:
        raise UserError(
            f"--zoom: fewer than two logged steps from {zoom[0]} to {zoom[1]}; "
            f"this job has steps {steps.min()} to {steps.max()}"
        )
    whole = (int(steps.min()), int(steps.max()))
    found = seen(one)
    if zoom is None and found and not look.narrow:
        around = window_around(richest(found, whole)[0], whole)
        zoom = around if around[1] - around[0] < (whole[1] - whole[0]) / 2 else None
    windows = [whole] + ([zoom] if zoom else [])
    panels = _panels(one)
    with look.applied():
        figure = look.figure(0.5 + 1.1 * len(panels))
        axes = figure.subplots(
            len(panels),
            len(windows),
            sharex="col",
            squeeze=False,
            width_ratios=[1.0] if len(windows) == 1 else [1.5, 1.0],
        )
        for column, window in enumerate(windows):
            for row, draw in enumerate(panels):
                panel = axes[row, column]
                shade(panel, found, window, look)
                draw(panel, one, window, look)
                if column:
                    panel.set_ylabel("")
                    if panel.get_legend():
                        panel.get_legend().remove()
            axes[0, column].set_xlim(*window)
            axes[-1, column].set_xlabel("optimiser step t")
        if zoom:
            for row in range(len(panels)):
                for edge in zoom:
                    axes[row, 0].axvline(edge, color=look.ink, linewidth=0.5, linestyle=":")
            axes[0, 1].set_title(f"steps {zoom[0]} to {zoom[1]}")
        shaded = "\nshaded: F oscillates about its course" if found else ""
        figure.suptitle(look.lines(one.title) + shaded)
        figure.align_ylabels(axes[:, 0])
    return figure


def seen(one: Trace) -> list[Instability]:
    """Instabilities of a training; none where its single steps were not kept."""
    return one.instabilities() if one.why_not_single_steps() is None else []


def shade(panel: Axes, found: Sequence[Instability], window: Window, look: Look) -> None:
    """Shade the instabilities."""
    for one in found:
        begin, end = max(one.onset, window[0]), min(one.end or window[1], window[1])
        if begin < end:
            panel.axvspan(begin, end, color=look.grey, alpha=0.18, linewidth=0, zorder=0)


def _panels(one: Trace) -> list[Callable[[Axes, Trace, Window, Look], None]]:
    every = (one.metrics["step"].diff().dropna() == 1).all() and len(one.metrics) > 2
    kernel = "ntk_max" in one.probes and one.probes["ntk_max"].notna().any()
    wanted = {
        _gammas: one.schedule is not None,
        _losses: True,
        _changes: every,
        _accuracies: True,
        _hessian: len(one.probes) > 0 and "hessian_max" in one.probes,
        _ntk: kernel,
    }
    return [draw for draw, shown in wanted.items() if shown]


def _line(
    panel: Axes,
    one: Trace,
    y: pd.Series,
    window: Window,
    colour: str,
    label: str | None = None,
    *,
    behind: bool = False,
) -> None:
    """Draw a series; as points where it is a part in which every step can be seen.

    What lies `behind` another is the thicker, so that two that agree are both seen.

    A line through a 2-cycle is a filled band; points show its branches, and how they split.
    """
    x = one.metrics["step"].loc[y.index]
    inside = x.between(*window).to_numpy()
    steps, values = x.to_numpy()[inside], y.to_numpy(dtype=float)[inside]
    if len(steps) < len(x) and len(steps) <= MOST_POINTS:
        dots(panel, steps, values, 3 if behind else 1.6, color=colour, label=label)
    else:
        kept = thin(values)
        width = 2.0 if behind else 0.8
        panel.plot(steps[kept], values[kept], color=colour, label=label, linewidth=width)


def dots(panel: Axes, x: Any, y: Any, size: float, **more: Any) -> None:
    """Draw points alone: on a 2-cycle values lie on two branches by turns."""
    panel.plot(x, y, linestyle="none", marker=".", markersize=size, markeredgewidth=0, **more)


def _gammas(panel: Axes, one: Trace, window: Window, look: Look) -> None:
    assert one.schedule is not None
    pulses = (window[1] - window[0]) // one.schedule.pulse
    if pulses > MOST_PULSES:
        # So many lines would be a block, and their samples would alias.
        steps = np.arange(window[0], window[0] + one.classes * one.schedule.pulse)
        gammas = one.schedule.gamma(steps)
        panel.fill_between(window, gammas.min(), gammas.max(), color=look.grey, alpha=0.3, lw=0)
        said = f"{pulses} pulses of {one.schedule.pulse} steps"
        panel.text(0.5, 0.5, said, transform=panel.transAxes, ha="center", va="center")
        panel.set_ylabel("Γ$_i$(t)")
        return
    steps = np.unique(np.linspace(*window, 4001).astype(np.int64))
    gammas = one.schedule.gamma(steps)
    shown = min(one.classes, len(look.colours))
    for i in range(shown):
        name, colour = class_label(one.labels, i), look.colours[i]
        panel.plot(steps, gammas[:, i], color=colour, label=name, linewidth=0.9)
    panel.set_ylabel("Γ$_i$(t)")
    _legend(panel, shown)


def _losses(panel: Axes, one: Trace, window: Window, look: Look) -> None:
    if one.schedule is not None:
        tilted = one.metrics["dynamical_loss"]
        _line(panel, one, tilted, window, look.colours[0], "F, with Γ(t)", behind=True)
    _line(panel, one, one.metrics["train_loss"], window, look.colours[1], "static loss")
    log_scale(panel)
    panel.set_ylabel("loss (nat)")
    _legend(panel, 2)


def _changes(panel: Axes, one: Trace, window: Window, look: Look) -> None:
    change = one.metrics["dynamical_loss"].diff()
    _line(panel, one, change.iloc[1:], window, look.colours[0])
    panel.axhline(0, color=look.grey, linewidth=0.6)
    panel.set_ylabel("F(t) − F(t−1)")


def _accuracies(panel: Axes, one: Trace, window: Window, look: Look) -> None:
    train, val = one.metrics["train_accuracy"], one.metrics["val_accuracy"]
    _line(panel, one, train, window, look.colours[0], "training", behind=True)
    if val.notna().any():
        _line(panel, one, val, window, look.colours[1], "validation")
    panel.set_ylim(0, 1.02)
    panel.set_ylabel("accuracy")
    _legend(panel, 2)


def _hessian(panel: Axes, one: Trace, window: Window, look: Look) -> None:
    _probed(panel, one, "hessian_max", window, look.colours[0], "λ$_{max}$ of F(·, t)")
    if one.bound is not None:
        if one.bound.column != "hessian_max" and one.curvature is not None:
            label = one.bound.column.removeprefix("hessian_max_").replace("_", " ")
            _probed(panel, one, one.bound.column, window, look.colours[3], label)
        rates = np.unique(one.bounds)
        value = f" = {rates[0]:g}" if len(rates) == 1 else ""
        dashed: Any = {"color": look.colours[1], "linewidth": 1.0, "linestyle": "--"}
        panel.plot(one.probes["step"], one.bounds, label=one.bound.formula + value, **dashed)
    log_scale(panel)
    panel.set_ylabel("Hessian λ$_{max}$")
    _legend(panel, 2)


def _ntk(panel: Axes, one: Trace, window: Window, look: Look) -> None:
    _probed(panel, one, "ntk_max", window, look.colours[2])
    log_scale(panel)
    panel.set_ylabel("NTK λ$_{max}$")


def _probed(
    panel: Axes, one: Trace, column: str, window: Window, colour: str, label: str | None = None
) -> None:
    probes = one.probes[one.probes["step"].between(*window)]
    size = 1.4 if len(probes) == len(one.probes) else 3.0
    dots(panel, probes["step"], probes[column], size, color=colour, label=label)


def _legend(panel: Axes, columns: int) -> None:
    panel.legend(loc="lower right", bbox_to_anchor=(1.0, 0.96), ncols=columns, markerscale=4)
