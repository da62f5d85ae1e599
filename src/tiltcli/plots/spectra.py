"""Spectral densities of the Hessian at the probed epochs of a training.

Eigenvalues are on a scale that is linear about zero and logarithmic beyond; the density is that
per unit of the scale (of asinh of the eigenvalue), so that areas are shares.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from tiltcli.analysis.thinning import evenly
from tiltcli.analysis.traces import Trace
from tiltcli.curvature.spectrum import Density
from tiltcli.errors import UserError
from tiltcli.plots.style import PAPER, Look

MOST = 6
"""Epochs, one below the other."""

WIDTH = 0.02
"""Standard deviation of the Gaussians, as a share of half the axis."""

POINTS = 600


def spectra(one: Trace, look: Look = PAPER) -> Figure:
    """Figure of the density of eigenvalues, per unit of their asinh, at the probed epochs."""
    probes = one.probes
    known = probes[probes["density_vectors"].notna()] if "density_vectors" in probes else probes[:0]
    if known.empty:
        raise UserError(
            f'{one.title}: no spectral density was probed: quantities = ["density"] in [probe], or '
            "tiltcli probe RUN --epochs A,B,C --quantities density"
        )
    chosen = evenly(len(known), MOST)
    rows = known.iloc[chosen].to_dict("records")
    scale = 0.01 * max(float(np.abs(row["density_nodes"]).max()) for row in rows)
    ends = [np.arcsinh(f(f(row["density_nodes"]) for row in rows) / scale) for f in (min, max)]
    at = np.linspace(ends[0] - 0.3, ends[1] + 0.3, POINTS)
    with look.applied():
        figure = look.figure(0.8 + 0.95 * len(rows))
        axes = figure.subplots(len(rows), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        tops: list[float] = []
        for panel, row in zip(axes, rows, strict=True):
            vectors = int(row["density_vectors"])
            nodes = np.arcsinh(np.reshape(row["density_nodes"], (vectors, -1)) / scale)
            weights = np.reshape(row["density_weights"], (vectors, -1)) * vectors
            mean, error = Density(nodes, weights).smooth(at, WIDTH * (ends[1] - ends[0]) / 2)
            panel.fill_between(
                at, mean - error, mean + error, color=look.colours[0], alpha=0.35, linewidth=0
            )
            panel.plot(at, mean, color=look.colours[0], linewidth=0.9)
            shares = f"shares ± {row['density_error']:.2g}"
            panel.set_title(f"epoch {row['epoch']}: {shares}", loc="left", fontsize=look.small)
            tops.append(float(mean.max()))
            bound = one.bound
            if bound is not None and bound.column == "hessian_max" and row["lr"] > 0:
                edge = np.arcsinh(bound.at(row["lr"]) / scale)
                if at[0] < edge < at[-1]:
                    panel.axvline(edge, color=look.grey, linewidth=0.9, linestyle="--")
        axes[0].set_yscale("log")
        axes[0].set_ylim(1e-4, 3 * max(tops))
        ticks = [s * 10.0**k for s in (-1, 1) for k in range(-6, 7)]
        ticks = [0.0, *(t for t in ticks if abs(t) >= scale)]
        places = [float(np.arcsinh(t / scale)) for t in ticks]
        shown = [(p, t) for p, t in zip(places, ticks, strict=True) if at[0] <= p <= at[-1]]
        axes[-1].set_xticks([p for p, _ in shown], [f"{t:g}" for _, t in shown])
        axes[-1].set_xlabel("eigenvalue of F's Hessian (asinh scale)")
        figure.supylabel("density on this scale", fontsize=look.theme.text)
        figure.suptitle(one.title)
        remarks = ["band: standard error over random vectors", "dashed: stability bound"]
        look.remark(figure, remarks)
    return figure
