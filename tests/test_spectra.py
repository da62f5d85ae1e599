"""Alignment and spectral density along trainings, against dense matrices; their figures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import tiltcli
from dense import check_density
from helpers import tilt, write_grid
from tiltcli.analysis.retraining import weights_at
from tiltcli.analysis.traces import jobs_of, trace_of
from tiltcli.curvature.lanczos import top_eigenvector
from tiltcli.data import dataset_of
from tiltcli.networks.models import network_of
from tiltcli.plots.curvature import alignment, local_exponents, plane
from tiltcli.plots.spectra import spectra
from tiltcli.plots.style import Look

GRID = """
[data]
kind = "spiral"
points_per_class = 12
[model]
width = 5
depth = {depth}
[loss]
kind = ["static", "dynamical"]
amplitude = 6
period = 10
groups = "{groups}"
[train]
epochs = 40
lr = [0.2, 1e30]
dtype = "float64"
seeds = 2
[probe]
every = 20
quantities = ["alignment", "density", "hessian"]
"""


def swept(folder, depth=1, groups="class", overrides=()):
    grid = write_grid(folder, GRID.format(depth=depth, groups=groups), "one")
    tiltcli.sweep(grid, results=folder, workers=0, overrides=overrides)
    return tiltcli.read("one", folder)


@pytest.mark.parametrize(("depth", "groups"), [(1, "class"), (1, "random"), (2, "class")])
def test_against_dense_matrices(tmp_path, depth, groups):
    few = ["train.lr=0.2", "loss.kind=dynamical", "train.seeds=1", "train.epochs=20"]
    tables = swept(tmp_path, depth, groups, few)
    (job,) = jobs_of(tmp_path / "one", list(tables.jobs["job"]))
    data = dataset_of(job)
    (snapshot,) = weights_at(job, data, [20], "fused")
    row = tables.probes.set_index(["job", "epoch"]).loc[(job.id, 20)]
    network = network_of(job, data.sample_shape, data.classes, torch.float64)
    torch.nn.utils.vector_to_parameters(torch.from_numpy(snapshot.theta), network.parameters())
    X, group = data.train.X, torch.from_numpy(data.train.group)
    gamma = snapshot.gamma.copy()
    # The oracle weighs by class: where groups are others, sample by sample.
    z = network(torch.from_numpy(X))
    each = torch.nn.functional.cross_entropy(z, torch.from_numpy(data.train.y), reduction="none")
    parameters = list(network.parameters())

    def slope(value, **kept):
        found = torch.autograd.grad(value, parameters, retain_graph=True, **kept)
        return torch.cat([part.flatten() for part in found])

    whole = slope((torch.from_numpy(gamma)[group] * each).mean(), create_graph=True)
    H = torch.stack([slope(one) for one in whole]).numpy()
    values, vectors = np.linalg.eigh(H)
    assert row["hessian_max"] == pytest.approx(values[-1], rel=1e-7)
    slopes = [slope(each[group == k].mean()).numpy() for k in range(3)]
    expected = [float(g @ vectors[:, -1]) ** 2 / (g @ g) for g in slopes]
    np.testing.assert_allclose(row["alignment"], expected, rtol=1e-5)
    check_density(row, values)


def test_top_eigenvector_of_a_matrix():
    draw = np.random.default_rng(3)
    root = draw.standard_normal((50, 50))
    A = root + root.T
    expected = np.linalg.eigh(A)[1][:, -1]
    found = top_eigenvector(lambda v: A @ v, 50)
    assert abs(found @ expected) == pytest.approx(1, abs=1e-8)
    assert np.linalg.norm(found) == pytest.approx(1)


def test_figures_of_trainings_with_another_axis_and_lost_jobs(tmp_path):
    tables = swept(tmp_path)
    assert set(tables.jobs["outcome"]) == {"completed", "diverged"}
    for kind in ("plane", "alignment", "density"):
        drawn = tilt("plot", kind, "one", "--results", ".", cwd=tmp_path)
        assert drawn.returncode == 0, drawn.stderr
        assert (tmp_path / "one/figures" / f"{kind}.png").stat().st_size > 10_000
    jobs = jobs_of(tmp_path / "one", list(tables.jobs["job"]))
    traces = [trace_of(tables, job) for job in jobs]
    figure = plane(traces, "one")
    (axes,) = figure.axes
    labels = [line.get_label() for line in axes.lines if not line.get_label().startswith("_")]
    assert len(labels) == 4 and all(label.endswith("n = 2") for label in labels), labels
    # A curve begins where its trainings do, and the dots are where they end.
    alive = tables.jobs.loc[tables.jobs["train.lr"].eq(0.2), ["job", "loss.kind"]]
    static = alive.loc[alive["loss.kind"].eq("static"), "job"]
    metrics, probes = (t.set_index(["job", "epoch"]) for t in (tables.metrics, tables.probes))
    first = np.exp(np.log([metrics.loc[(job, 0), "train_loss"] for job in static]).mean())
    assert any(np.isclose(line.get_xdata()[0], first) for line in axes.lines)
    ends = {round(float(x), 12) for line in axes.lines for x in np.atleast_1d(line.get_xdata())}
    assert {round(float(metrics.loc[(job, 40), "train_loss"]), 12) for job in static} <= ends
    assert probes["hessian_max_static"].notna().all()
    none = [trace_of(replace(tables, probes=tables.probes[:0]), job) for job in jobs[:1]]
    with pytest.raises(tiltcli.UserError, match="no spectral density"):
        spectra(none[0])
    with pytest.raises(tiltcli.UserError, match=r"multiple of train\.log_every"):
        plane(none, "one")
    with pytest.raises(tiltcli.UserError, match="no alignment was probed"):
        alignment(none, "one")


def test_alignments_are_drawn_cell_by_cell(tmp_path):
    tables = swept(tmp_path, overrides=["model.width=[5, 7]", "train.weight_decay=[0.0, 0.01]"])
    jobs = jobs_of(tmp_path / "one", list(tables.jobs["job"]))
    traces = [trace_of(tables, job) for job in jobs]
    figure = alignment(traces, "one")
    panels = [panel for panel in figure.axes if panel.axison]
    titles = {panel.get_title("left").replace("\n", " "): panel for panel in panels}
    assert len(titles) == 8 and all(title.endswith("n = 2") for title in titles), list(titles)
    assert "16 trainings" in figure.get_suptitle().replace("\n", " ")  # diverged at once
    every = tables.probes.set_index("job")
    settled = tables.jobs[tables.jobs["train.lr"].eq(0.2)]
    for _, cell in settled.groupby(["model.width", "train.weight_decay", "loss.kind"]):
        rows = np.stack([np.stack(every.loc[job, "alignment"]) for job in cell["job"]])
        drawn = [np.column_stack([line.get_ydata() for line in p.lines[:3]]) for p in panels]
        assert sum(np.allclose(one, rows.mean(axis=0), rtol=1e-12) for one in drawn) == 1
    half = alignment([one for one in traces if one.schedule and one.job["model.width"] == 5], "x")
    assert len([panel for panel in half.axes if panel.axison]) == 2
    narrow = alignment(traces[:1], "x", Look("screen", 3.4))
    assert narrow.axes[0].get_xlabel() == "optimiser step"


def test_alignments_of_many_classes_whose_names_differ(tmp_path):
    """Eight lines a panel, and a legend in each, as a colour is another class there."""
    draw = np.random.default_rng(0)
    for kind in "ab":
        rows = [f"{x:.3f},{y:.3f},{kind}{i % 10}" for i, (x, y) in enumerate(draw.random((40, 2)))]
        (tmp_path / f"{kind}.csv").write_text("\n".join(["x,y,label", *rows]))
    where = 'kind = "file"\npath = ["a.csv", "b.csv"]\ntarget = "label"'
    text = GRID.replace('kind = "spiral"\npoints_per_class = 12', where)
    few = ["train.lr=0.2", "loss.kind=static", "train.seeds=1", "train.epochs=20"]
    grid = write_grid(tmp_path, text.format(depth=1, groups="class"), "one")
    tiltcli.sweep(grid, results=tmp_path, overrides=few, workers=0)
    tables = tiltcli.read("one", tmp_path)
    jobs = jobs_of(tmp_path / "one", list(tables.jobs["job"]))
    figure = alignment([trace_of(tables, job) for job in jobs], "one")
    assert "first 8 of 10" in figure.get_suptitle().replace("\n", " ")
    assert not figure.legends
    every = tables.probes.set_index("job")
    for job, panel in zip(jobs, figure.axes, strict=True):
        lines, labels = panel.get_legend_handles_labels()
        assert [text.get_text() for text in panel.get_legend().get_texts()] == labels
        assert labels == [f"{Path(job['data.path']).stem}{i}" for i in range(8)]
        drawn = np.column_stack([line.get_ydata() for line in lines])
        wanted = np.stack(every.loc[job.id, "alignment"])
        assert wanted.shape == (2, 10)
        np.testing.assert_array_equal(drawn, wanted[:, :8])


def test_exponents_between_probes_are_differences_of_sums(tmp_path):
    tables = swept(tmp_path, overrides=["loss.kind=static", "train.seeds=1", "train.lr=0.2"])
    (job,) = jobs_of(tmp_path / "one", list(tables.jobs["job"]))
    steps = np.arange(0, 800, 10)
    growth = np.cumsum(np.sin(steps))
    with np.errstate(invalid="ignore"):
        rows = {"step": steps, "epoch": steps, "lyapunov": (growth - growth[0]) / steps}
    one = trace_of(tables, job)
    object.__setattr__(one, "probes", pd.DataFrame(rows))
    found = local_exponents(one)
    assert list(found.index[:2]) == [20, 30]
    np.testing.assert_allclose(found, (growth[2:] - growth[:-2]) / 20)
