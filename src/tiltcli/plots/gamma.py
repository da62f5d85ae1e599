"""The class weights Γ_i(t) over one round of pulses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tiltcli.plots.style import PAPER, Look, new_figure, style
from tiltcli.schedule import Schedule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLASSES = 8


def gamma_figure(
    schedule: Schedule, title: str = "", look: Look = PAPER, labels: Sequence[str] = ()
) -> Figure:
    """Return a figure of the weights of all classes (at most eight) for one round of pulses.

    Args:
        schedule: the oscillation.
        title: before its settings.
        look: of the figure.
        labels: names of the classes; default: their numbers.

    """
    classes = schedule.classes
    shown = min(classes, MOST_CLASSES)
    end = shown * schedule.pulse
    # Enough points for a line; all of them where pulses are short, so that steps show as steps.
    steps = np.unique(np.linspace(0, end, min(end + 1, 4001)).astype(np.int64))
    gammas = schedule.gamma(steps)
    peak = float(gammas.max())
    with style(look):
        figure = new_figure(look, 2.4)
        panel = figure.subplots()
        short = end <= 200
        for i in range(shown):
            panel.plot(
                steps,
                gammas[:, i],
                color=look.colours[i % len(look.colours)],
                label=class_name(labels, i),
                # Classes that rest have equal weights: the later lie, thinner, on the earlier.
                linewidth=0.9 + 1.2 * (shown - 1 - i) / shown,
                drawstyle="steps-post" if short else "default",
            )
        panel.axhline(1, color=look.grey, linewidth=0.8, linestyle=":")
        panel.text(end, 1, " static", color=look.grey, va="center", fontsize=look.small)
        panel.set_xlim(0, end)
        panel.set_ylim(0, 1.06 * peak)
        panel.set_xlabel("optimiser step t")
        panel.set_ylabel("class weight Γ$_i$(t)")
        rest = f", rest {schedule.rest}" if schedule.rest else ""
        some = f"; first {shown} of {classes} classes" if shown < classes else ""
        panel.set_title(
            f"{title + ': ' if title else ''}A = {schedule.amplitude:g}, T = {schedule.period}"
            f"{rest}, {schedule.shape}; ΣΓ = {classes}{some}"
        )
        figure.legend(loc="outside lower center", ncols=min(shown, 4) if look.narrow else shown)
    return figure


def class_name(labels: Sequence[str], number: int) -> str:
    """Name of a class for a legend: its own where it says more than its number."""
    name = labels[number] if number < len(labels) else str(number)
    if name == str(number):
        return f"class {number}"
    # A dollar or a leading underscore would mean something to the drawing library.
    name = name.replace("$", r"\$")
    return "\u200b" + name[:24] if name.startswith("_") else name[:24]
