"""What a training comes to at each learning rate: loss, curvature, Lyapunov exponent."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tiltcli.curvature.stability import Bound
from tiltcli.plots.style import PAPER, Look
from tiltcli.store.branch_rows import Branch

MOST = 3
"""Branches beside each other."""


def bifurcation(
    branches: Mapping[Branch, pd.DataFrame], bound: Bound | None, title: str, look: Look = PAPER
) -> Figure:
    """Return a figure with a column for each branch."""
    exponents = any(rows["lyapunov"].notna().any() for rows in branches.values())
    heights = [2.2, 1.2, 1.0] if exponents else [2.2, 1.2]
    remarks = ["kept: the last losses of each learning rate"]
    with look.applied():
        figure = look.figure(1.3 * sum(heights) + 0.6)
        grid = figure.subplots(
            len(heights), len(branches), sharex="col", squeeze=False, height_ratios=heights
        )
        for column, (branch, rows) in zip(grid.T, branches.items(), strict=True):
            begin = rows["step"] == rows["step"].min()
            kept = rows[~begin & rows["loss"].notna()]
            column[0].plot(kept["lr"], kept["loss"], ",", color=look.colours[0], rasterized=True)
            held = "Γ frozen" if branch.frozen else "Γ going on"
            column[0].set_title(f"from epoch {branch.epoch}, {held}, {branch.steps} steps")
            low, high = np.nanquantile(kept["loss"], [0.0, 0.995]) if len(kept) else (0.0, 1.0)
            column[0].set_ylim(low - 0.05 * (high - low), high + 0.15 * (high - low))
            lost = rows.loc[~begin & rows["loss"].isna(), "lr"].nunique()
            if lost:
                remarks.append(f"epoch {branch.epoch}: {lost} learning rates diverged")
            column[1].plot(kept["lr"], kept["sharpness"], ".", color=look.colours[1], markersize=2)
            if bound is not None:
                rates = np.linspace(max(kept["lr"].min(), 1e-9), kept["lr"].max(), 300)
                curve = [bound.at(rate) for rate in rates]
                label = f"bound {bound.formula}"
                column[1].plot(rates, curve, color=look.grey, linewidth=0.9, label=label)
                top = 1.3 * float(kept["sharpness"].max())
                column[1].set_ylim(0, top if top > 0 else None)
                column[1].legend(loc="upper right")
                flip = bound.rate_of(float(rows.loc[begin, "sharpness"].iloc[0]))
                for panel in column:
                    panel.axvline(flip, color=look.grey, linewidth=0.9, linestyle="--")
                column[0].annotate(
                    f"bound reached by λ$_{{max}}$ at the start: η = {flip:.3g}",
                    (flip, 1.0),
                    xycoords=("data", "axes fraction"),
                    xytext=(-2, -2),
                    textcoords="offset points",
                    ha="right",
                    va="top",
                    fontsize=look.small,
                )
            if exponents:
                known = rows[rows["lyapunov"].notna()]
                column[2].axhline(0.0, color=look.grey, linewidth=0.6)
                column[2].plot(known["lr"], known["lyapunov"], color=look.colours[2], linewidth=0.7)
            column[-1].set_xlabel("learning rate η")
        grid[0][0].set_ylabel("F (nat), last steps")
        grid[1][0].set_ylabel("λ$_{max}$ of F, last two")
        if exponents:
            grid[2][0].set_ylabel("Lyapunov exponent\nper step")
        figure.suptitle(title)
        look.remark(figure, remarks)
    return figure
