"""One training through time: weights, losses, accuracy, and curvature where it was probed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tiltcli.plots.style import PAPER, Look, new_figure, style, thin
from tiltcli.records import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tiltcli.traces import Trace


Window = tuple[int, int]


def trace(one: Trace, zoom: Window | None = None, look: Look = PAPER) -> Figure:
    """Draw panels over a common step axis; with `zoom`, a second column for these steps.

    Args:
        one: the job.
        zoom: first and last step of the second column.
        look: style and width.

    Raises:
        UserError: if nothing was logged within `zoom`.

    """
    steps = one.metrics["step"]
    if zoom is not None and not steps.between(*zoom).sum() > 1:
        raise UserError(
            f"--zoom: fewer than two logged steps from {zoom[0]} to {zoom[1]}; "
            f"this job has steps {steps.min()} to {steps.max()}"
        )
    whole = (int(steps.min()), int(steps.max()))
    windows = [whole] + ([zoom] if zoom else [])
    panels = _panels(one)
    with style(look):
        figure = new_figure(look, 0.5 + 1.1 * len(panels))
        axes = figure.subplots(
            len(panels),
            len(windows),
            sharex="col",
            squeeze=False,
            width_ratios=[1.0] if len(windows) == 1 else [1.6, 1.0],
        )
        for column, window in enumerate(windows):
            for row, draw in enumerate(panels):
                panel = axes[row, column]
                draw(panel, one, window, look)
                if column:
                    panel.set_ylabel("")
                    if panel.get_legend():
                        panel.get_legend().remove()
            axes[0, column].set_xlim(*window)
            axes[-1, column].set_xlabel("optimiser step t")
        if zoom:
            for row in range(len(panels)):
                axes[row, 0].axvspan(*zoom, color=look.grey, alpha=0.15, linewidth=0)
            axes[0, 1].set_title(f"steps {zoom[0]} to {zoom[1]}")
        figure.suptitle(one.title)
        figure.align_ylabels(axes[:, 0])
    return figure


def _panels(one: Trace) -> list[Callable[[Axes, Trace, Window, Look], None]]:
    panels: list[Callable[[Axes, Trace, Window, Look], None]] = []
    if one.schedule is not None:
        panels.append(_gammas)
    panels.append(_losses)
    if (one.metrics["step"].diff().dropna() == 1).all() and len(one.metrics) > 2:
        panels.append(_changes)
    panels.append(_accuracies)
    if len(one.probes) and "hessian_max" in one.probes:
        panels.append(_hessian)
    if len(one.probes) and "ntk_max" in one.probes and one.probes["ntk_max"].notna().any():
        panels.append(_ntk)
    return panels


def _line(
    panel: Axes, x: pd.Series, y: pd.Series, window: Window, colour: str, label: str = ""
) -> None:
    inside = x.between(*window).to_numpy()
    steps, values = x.to_numpy()[inside], y.to_numpy(dtype=float)[inside]
    kept = thin(values)
    panel.plot(steps[kept], values[kept], color=colour, label=label or None, linewidth=0.9)


def _gammas(panel: Axes, one: Trace, window: Window, look: Look) -> None:
    assert one.schedule is not None
    steps = np.unique(np.linspace(*window, 4001).astype(np.int64))
    gammas = one.schedule.gamma(steps)
    for i in range(min(one.classes, len(look.colours))):
        panel.plot(steps, gammas[:, i], color=look.colours[i], label=f"class {i}", linewidth=0.9)
    panel.set_ylabel("Γ$_i$")
    _legend(panel, min(one.classes, len(look.colours)))


def _losses(panel: Axes, one: Trace, window: Window, look: Look) -> None:
    step = one.metrics["step"]
    if one.schedule is not None:
        label = "F, with Γ(t)"
        _line(panel, step, one.metrics["dynamical_loss"], window, look.colours[0], label)
    _line(panel, step, one.metrics["train_loss"], window, look.colours[1], "static loss")
    panel.set_yscale("log")
    panel.set_ylabel("loss (nat)")
    _legend(panel, 2)


def _changes(panel: Axes, one: Trace, window: Window, look: Look) -> None:
    change = one.metrics["dynamical_loss"].diff()
    _line(panel, one.metrics["step"].iloc[1:], change.iloc[1:], window, look.colours[0])
    panel.axhline(0, color=look.grey, linewidth=0.6)
    panel.set_ylabel("F(t) − F(t−1)")


def _accuracies(panel: Axes, one: Trace, window: Window, look: Look) -> None:
    step = one.metrics["step"]
    _line(panel, step, one.metrics["train_accuracy"], window, look.colours[0], "training")
    if one.metrics["val_accuracy"].notna().any():
        _line(panel, step, one.metrics["val_accuracy"], window, look.colours[1], "validation")
    panel.set_ylim(0, 1.02)
    panel.set_ylabel("accuracy")
    _legend(panel, 2)


def _hessian(panel: Axes, one: Trace, window: Window, look: Look) -> None:
    step = one.probes["step"]
    _line(panel, step, one.probes["hessian_max"], window, look.colours[0], "λ$_{max}$ of F(·, t)")
    panel.axhline(2 / one.lr, color=look.colours[1], linewidth=1.0, linestyle="--", label="2/η")
    panel.set_yscale("log")
    panel.set_ylabel("Hessian λ$_{max}$")
    _legend(panel, 2)


def _ntk(panel: Axes, one: Trace, window: Window, look: Look) -> None:
    _line(panel, one.probes["step"], one.probes["ntk_max"], window, look.colours[2])
    panel.set_yscale("log")
    panel.set_ylabel("NTK λ$_{max}$")


def _legend(panel: Axes, columns: int) -> None:
    panel.legend(loc="lower right", bbox_to_anchor=(1.0, 0.96), ncols=columns)
