"""What was probed along trainings: curvature, the plane of loss and sharpness, alignment.

A single training is drawn as its probes. Several seeds are drawn as their geometric mean with the
95% interval of it (Student's, of the logarithms); of two probes in a row the higher counts, for on
a 2-cycle λ_max is on a higher and a lower branch by turns. Where optimisers or learning rates
differ, so that no one bound can be drawn, the first panel has each one's curvature over its bound.

Curves through the plane are geometric means over the replicates of a cell and over stretches as
long as the longest pulse, and begin at the first probe; thin lines are over the replicates alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tiltcli.analysis.traces import Trace
from tiltcli.errors import Outcome, UserError
from tiltcli.evaluation.cells import gather
from tiltcli.evaluation.facets import MOST_PANELS, cell_name, check_panels, named, telling
from tiltcli.plots.gamma import MOST_CLASSES, class_label
from tiltcli.plots.style import (
    PAPER,
    Look,
    grid_of,
    legend_below,
    log_scale,
    name_edges,
    span,
    wrapped,
)
from tiltcli.plots.trace import dots, seen, shade
from tiltcli.statistics import mean_interval
from tiltcli.store.spool import setting_columns

Array = npt.NDArray[np.float64]

SHARE = "share"

PANELS = (
    (SHARE, "curvature / bound"),
    ("hessian_max", "λ$_{max}$ of F(·, t)"),
    ("hessian_max_static", "λ$_{max}$ of the static loss"),
    ("hessian_max_preconditioned", "λ$_{max}$ of F, preconditioned"),
    ("batch_sharpness", "batch sharpness"),
    ("ntk_max", "NTK λ$_{max}$"),
    ("lyapunov", "Lyapunov exponent\nper step"),
)

MOST_PULSES = 40
"""Pulses up to which their boundaries are drawn."""

STRETCHES = 150
"""Points of a curve through the plane, where there are no longer pulses."""

SHARPNESS = "hessian_max_static"

FEW_PROBES = 30
"""Probes of an alignment below which each is marked."""


def curvature(traces: Sequence[Trace], title: str = "", look: Look = PAPER) -> Figure:
    """Figure of λ_max and what else was probed against the step, a line for each cell."""
    groups = lines_of([one for one in traces if len(one.probes)], len(look.colours))
    if not groups:
        raise UserError(f"{title}: nothing was probed")
    everyone = [one for members in groups.values() for one in members]
    if not one_bound(everyone):
        groups = {name: list(map(_with_share, members)) for name, members in groups.items()}
        everyone = [one for members in groups.values() for one in members]
    single = len(everyone) == 1
    known = pd.concat([one.probes for one in everyone])
    tilted = any(one.schedule for one in everyone)
    panels = [
        (column, said)
        for column, said in PANELS
        if column in known
        and known[column].notna().any()
        and (tilted or column != "hessian_max_static")  # F is the static loss
    ]
    with look.applied():
        figure = look.figure(0.7 + (1.75 if look.narrow else 1.45) * len(panels))
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        exponents: list[str] = []
        for panel, (column, said) in zip(axes, panels, strict=True):
            for number, (label, members) in enumerate(groups.items()):
                colour = look.ink if label == "static" else look.colours[number]
                if column == "lyapunov":
                    exponents.append(_exponents(panel, members, colour, label))
                elif single:
                    _points(panel, members[0], column, colour, look)
                else:
                    # The first line is the thicker one, so that two that agree are both seen.
                    width = 0.8 if number else 1.8
                    means = seed_table(members, column)
                    course(panel, *means, colour, np.exp, label=label, linewidth=width)
                if column == "hessian_max":
                    _onsets(panel, members, colour)
            _frame(panel, everyone, column, look)
            if column == "lyapunov":
                panel.axhline(0.0, color=look.grey, linewidth=0.6)
                whole = look.packed(["of all steps: " + exponents[0], *exponents[1:]])
                panel.set_title(whole, loc="left", fontsize=look.small)
            elif column != SHARE:
                log_scale(panel)
            panel.set_ylabel(said)
        axes[-1].set_xlim(0, None)
        axes[-1].set_xlabel("optimiser step")
        longest = max(map(len, axes[0].get_legend_handles_labels()[1]))
        columns = min(2 if look.narrow else 3, max(1, 110 // (8 + longest)))
        legend_below(figure, axes[:1], columns)
        band = "\nband: 95% interval" if look.narrow else ", band: 95% interval"
        over = f"geometric mean over n = {span(map(len, groups.values()))} seeds{band}"
        figure.suptitle(look.lines(everyone[0].title if single else f"{title}: {over}"))
        figure.align_ylabels(axes)
    return figure


def one_bound(traces: Sequence[Trace]) -> bool:
    """Whether trainings have one bound in common, at all times."""
    return len({(t.bound, t.lr, str(t.job.get("train.lr_schedule"))) for t in traces}) == 1


def _with_share(one: Trace) -> Trace:
    shares = np.nan if one.curvature is None else one.curvature.shares
    return replace(one, probes=one.probes.assign(**{SHARE: shares}))


def lines_of(
    traces: Sequence[Trace], most: int, kind: str = "curvature", what: str = "lines"
) -> dict[str, list[Trace]]:
    """Traces of each cell, under a name that says what sets it apart."""
    known = {"outcome": str(Outcome.COMPLETED), "train_accuracy": np.nan}
    jobs = pd.DataFrame([{"job": t.job.id, **known, **setting_columns(t.job)} for t in traces])
    if jobs.empty:
        return {}
    cells = gather(jobs)
    keys = telling(cells.rows, cells.outside)
    apart = [*keys, *telling(cells.rows[~cells.rows["static"]], cells.inside)]
    check_panels(kind, cells.rows, apart, len(cells.rows), most, what)
    found = {}
    for number in cells.rows.index.tolist():
        row = cells.rows.loc[number]
        group = named({key: row[key] for key in keys if pd.notna(row[key])})
        label = ", ".join(filter(None, [cell_name(cells, number), group]))
        members = set(cells.jobs_of(number))
        found[label] = [one for one in traces if one.job.id in members]
    return found


def _points(panel: Axes, one: Trace, column: str, colour: str, look: Look) -> None:
    dots(panel, one.probes["step"], one.probes[column], 1.8, color=colour)
    panel.plot([], [], color=colour, linestyle="none", marker=".", label="a probe")
    shade(panel, seen(one), (0, int(one.metrics["step"].max())), look)


def course(
    panel: Axes,
    steps: npt.ArrayLike,
    values: Array,
    colour: str,
    of: Callable[[list[float]], npt.ArrayLike] = np.asarray,
    shade: float = 0.25,
    **line: Any,
) -> None:
    """Draw means over trainings and their 95% intervals; `values` are (probes, trainings)."""
    found = [mean_interval(row) for row in values]
    panel.plot(steps, of([one.mean for one in found]), color=colour, **line)
    if values.shape[1] > 1:
        low, high = of([one.low for one in found]), of([one.high for one in found])
        panel.fill_between(steps, low, high, color=colour, alpha=shade, linewidth=0)


def local_exponents(one: Trace) -> pd.Series:
    """Return the Lyapunov exponent over the steps since an earlier probe, by step.

    That is a pulse earlier, or a fortieth of the probes where there are no pulses.
    """
    probes = one.probes[one.probes["lyapunov"].notna() | one.probes["step"].eq(0)]
    growth = (probes["lyapunov"] * probes["step"]).set_axis(probes["step"]).fillna(0.0)
    steps = pd.Series(growth.index, growth.index)
    apart = max(1, len(growth) // 40)
    if one.schedule is not None:
        apart = max(1, int((steps < steps.min() + one.schedule.pulse).sum()))
    return (growth.diff(apart) / steps.diff(apart)).dropna()


def _exponents(panel: Axes, members: Sequence[Trace], colour: str, label: str) -> str:
    """Draw exponents over some seeds; returns words on that of the whole trainings."""
    table = pd.DataFrame({one.job.id: local_exponents(one) for one in members}).sort_index()
    whole = mean_interval([one.probes["lyapunov"].dropna().iloc[-1:].mean() for one in members])
    course(panel, table.index, table.to_numpy(), colour, label=label, linewidth=0.8)
    interval = f" [{whole.low:.2g}, {whole.high:.2g}]" if len(members) > 1 else ""
    return f"{label or 'all steps'}: {whole.mean:.2g}{interval}"


def seed_table(members: Sequence[Trace], column: str) -> tuple[npt.NDArray[np.int64], Array]:
    """Logarithms of a probed column over seeds; of F's λ_max the higher of two probes in a row."""
    columns = {one.job.id: one.probes.set_index("step")[column] for one in members}
    table = pd.DataFrame(columns).sort_index().astype(float)
    if column == "hessian_max":
        table = table.rolling(2, min_periods=1).max()
    positive = table.where(table > 0)
    return table.index.to_numpy(np.int64), np.log(positive.to_numpy())


def _onsets(panel: Axes, members: Sequence[Trace], colour: str) -> None:
    """Mark the onsets of all seeds by ticks on the lower edge."""
    steps = [found.onset for one in members for found in seen(one)]
    if steps:
        looks: dict[str, Any] = {"color": colour, "transform": panel.get_xaxis_transform()}
        looks |= {"label": "onset of an instability", "markersize": 5.0}
        panel.plot(steps, np.full(len(steps), 0.03), "|", **looks)


def _frame(panel: Axes, everyone: Sequence[Trace], column: str, look: Look) -> None:
    """Draw the bound and the boundaries of the pulses."""
    bound, first = everyone[0].bound, everyone[0]
    dashed: Any = {"color": look.grey, "linewidth": 1.0, "linestyle": "--"}
    if column == SHARE:
        panel.set_ylim(0, None)
        panel.axhline(1.0, label="the bound", **dashed)
    elif one_bound(everyone) and bound and column.removesuffix("_static") == bound.column:
        panel.plot(first.probes["step"], first.bounds, label=bound.formula, **dashed)
    mark_pulses(panel, everyone, look)


def mark_pulses(panel: Axes, everyone: Sequence[Trace], look: Look) -> None:
    """Draw the boundaries of pulses that all trainings have in common, unless they are many."""
    pulses = {(one.schedule.pulse, one.schedule.settled_from) for one in everyone if one.schedule}
    if len(pulses) == 1:
        pulse, settled = next(iter(pulses))
        last = int(max(one.probes["step"].max() for one in everyone))
        edges = range(pulse, (last if settled is None else min(settled, last)) + 1, pulse)
        if len(edges) <= MOST_PULSES:
            for edge in edges:
                panel.axvline(edge, color=look.grey, linewidth=0.4, linestyle=":", zorder=0)


def plane(traces: Sequence[Trace], title: str = "", look: Look = PAPER) -> Figure:
    """Figure of the static loss against its sharpness, as in figure 1 of arXiv:2410.10690."""
    groups = lines_of([one for one in traces if len(one.probes)], len(look.colours), "plane")
    courses = {
        label: found
        for label, members in groups.items()
        if (found := [course for one in members if len(course := _through_plane(one))])
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


def _through_plane(one: Trace) -> pd.DataFrame:
    """Logarithms of loss and sharpness by step."""
    if SHARPNESS not in one.probes:
        return pd.DataFrame()
    loss = one.metrics.set_index("step")["train_loss"]
    both = one.probes.set_index("step")[[SHARPNESS]].join(loss, how="inner")
    both = both[["train_loss", SHARPNESS]].astype(float)
    positive = both[(both > 0).all(axis=1)]
    return positive.apply(np.log)


def alignment(traces: Sequence[Trace], title: str = "", look: Look = PAPER) -> Figure:
    """Figure of ⟨g, v⟩²/‖g‖² by step, a line for each class: means over seeds, 95% intervals."""
    known = [t for t in traces if "alignment" in t.probes and t.probes["alignment"].notna().any()]
    # A training that diverged at once has the probe of its start alone: no course.
    known = [one for one in known if one.probes["step"].max()] or known
    cells = lines_of(known, MOST_PANELS, "alignment", "panels")
    if not cells:
        raise UserError(
            f'{title}: no alignment was probed: quantities = ["alignment"] in [probe], or '
            "tiltcli probe RUN --every N --quantities alignment"
        )
    columns = 1 if look.narrow or len(cells) == 1 else 2
    with look.applied():
        figure = look.figure(0.9 + 1.8 * -(-len(cells) // columns))
        axes = grid_of(figure, len(cells), columns, sharex=True, sharey=True)
        for panel, (label, members) in zip(axes, cells.items(), strict=True):
            _draw_classes(panel, members, look)
            mark_pulses(panel, members, look)
            name = f"{label + ', ' if label else ''}n = {len(members)}"
            panel.set_title(wrapped(name, int(70 * look.width / 7 / columns)), loc="left")
        name_edges(axes, columns, "optimiser step")
        if len({tuple(panel.get_legend_handles_labels()[1]) for panel in axes}) == 1:
            legend_below(figure, axes, 3 if look.narrow else MOST_CLASSES)
        else:  # the same colour has another meaning in each
            for panel in axes:
                panel.legend(fontsize=look.small)
        axes[0].set_ylim(0, 1)
        axes[0].set_xlim(0, None)
        figure.supylabel("⟨g, v⟩² / ‖g‖²", fontsize=look.theme.text)
        remarks = [f"{title}: gradients along the top eigenvector"]
        remarks += ["band: 95% interval"] if max(map(len, cells.values())) > 1 else []
        lost = len(traces) - len(known)
        remarks += [f"{lost} trainings have no such probes"] if lost else []
        classes = max(one.classes for one in known)
        remarks += [f"first {MOST_CLASSES} of {classes}"] if classes > MOST_CLASSES else []
        figure.suptitle(look.packed(remarks))
    return figure


def _draw_classes(panel: Axes, members: Sequence[Trace], look: Look) -> None:
    first = members[0]
    courses = [one.probes.set_index("step")["alignment"].dropna() for one in members]
    for i in range(min(first.classes, MOST_CLASSES)):
        values = pd.concat([course.str[i] for course in courses], axis=1).sort_index()
        name = class_label(first.labels, i)
        if first.job.get("loss.groups") == "random":
            name = f"group {i}"
        colour, table = look.colours[i % len(look.colours)], values.to_numpy(np.float64)
        marker = "." if len(values) < FEW_PROBES else ""
        course(
            panel, values.index, table, colour, shade=0.15, label=name, linewidth=0.8, marker=marker
        )
