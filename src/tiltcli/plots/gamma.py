"""The class weights Γ_i(t) over one round of pulses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tiltcli.evaluation.facets import class_name
from tiltcli.plots.style import PAPER, Look, legend_below
from tiltcli.schedule import Schedule

MOST_CLASSES = 8


def gamma_figure(
    schedules: Schedule | Sequence[Schedule],
    title: str = "",
    look: Look = PAPER,
    labels: Sequence[str] = (),
) -> Figure:
    """Return a figure of the weights of all classes (at most eight) for one round of pulses.

    Rounds that differ (random orders, weights that decay) are shown together: three of them, or
    as many as three half-lives take, at most twelve.
    """
    several = [schedules] if isinstance(schedules, Schedule) else list(schedules)
    with look.applied():
        figure = look.figure(0.5 + 1.9 * len(several))
        panels = figure.subplots(len(several), squeeze=False)[:, 0]
        for panel, schedule in zip(panels, several, strict=True):
            _draw(panel, schedule, look, labels)
            panel.set_title(_title(schedule, title if panel is panels[0] else ""))
        panels[-1].set_xlabel("optimiser step t")
        legend_below(figure, panels, 4 if look.narrow else MOST_CLASSES)
    return figure


def _draw(panel: Axes, schedule: Schedule, look: Look, labels: Sequence[str]) -> None:
    shown = 1 if schedule.groups == "all" else min(schedule.classes, MOST_CLASSES)
    around = schedule.classes * schedule.pulse
    rounds = 3 if schedule.order == "random" else 1
    if schedule.half_life:
        rounds = max(rounds, min(12, -(-3 * schedule.half_life // around)))
    end = min(schedule.classes, MOST_CLASSES) * schedule.pulse if rounds == 1 else rounds * around
    # Enough points for a line; all of them where pulses are short, so that steps show as steps.
    steps = np.unique(np.linspace(0, end, min(end + 1, 4001)).astype(np.int64))
    gammas = schedule.gamma(steps)
    for i in range(shown):
        name = class_label(labels, i)
        if schedule.groups != "class":
            name = "every class" if schedule.groups == "all" else f"group {i}"
        panel.plot(
            steps,
            gammas[:, i],
            color=look.colours[i % len(look.colours)],
            label=name,
            # Classes that rest have equal weights: the later lie, thinner, on the earlier.
            linewidth=0.9 + 1.2 * (shown - 1 - i) / shown,
            drawstyle="steps-post" if end <= 200 or schedule.timing == "noise" else "default",
        )
    panel.axhline(1, color=look.grey, linewidth=0.8, linestyle=":")
    panel.text(end, 1, " static", color=look.grey, va="center", fontsize=look.small)
    panel.set_xlim(0, end)
    panel.set_ylim(0, 1.06 * float(gammas.max()))
    panel.set_ylabel("class weight Γ$_i$(t)")


def _title(schedule: Schedule, title: str) -> str:
    said = [f"A = {schedule.amplitude:g}, T = {schedule.period}"]
    said += [f"rest {schedule.rest}"] if schedule.rest else []
    said.append(schedule.shape)
    for name, usual in (("order", "cyclic"), ("groups", "class"), ("timing", "pulse")):
        value = getattr(schedule, name)
        said += [f"{name} {value}"] if value != usual else []
    said += [f"half-life {schedule.half_life}"] if schedule.half_life else []
    text = f"{title + ': ' if title else ''}{', '.join(said)}"
    if schedule.groups != "all":
        text += f"; ΣΓ = {schedule.classes}"
        if schedule.classes > MOST_CLASSES:
            text += f"; first {MOST_CLASSES} of {schedule.classes} classes"
    return text


def class_label(labels: Sequence[str], number: int) -> str:
    """Name of a class, in which nothing means anything to the drawing library."""
    name = class_name(labels, number).replace("$", r"\$")
    return "\u200b" + name if name.startswith("_") else name
