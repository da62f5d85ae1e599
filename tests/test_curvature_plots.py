"""Curvature and instabilities as drawn: the numbers of the tables, over seeds with intervals."""

import matplotlib as mpl
import numpy as np
import pytest

import tiltcli
from helpers import tilt, write_grid
from tiltcli.analysis.traces import jobs_of, trace_of
from tiltcli.analysis.valleys import valleys_of
from tiltcli.errors import UserError
from tiltcli.plots.curvature import curvature, seed_table
from tiltcli.plots.trace import trace
from tiltcli.plots.valley import valley
from tiltcli.reports.verdict_list import at_the_edge
from tiltcli.statistics import mean_interval

GRID = """
[data]
kind = "spiral"
points_per_class = 30
[model]
width = 10
[loss]
kind = ["static", "dynamical"]
amplitude = 20
period = 500
rest = 1
[train]
epochs = 2004
dtype = "float64"
log_every = 1
seeds = 2
[probe]
every = 101
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("curvature")
    tiltcli.sweep(write_grid(path, GRID, "small"), results=path / "results")
    bare = GRID[: GRID.index("[probe]")].replace("2004", "60")
    tiltcli.sweep(write_grid(path, bare, "bare"), results=path / "results")
    return path


EDGE = """
[data]
kind = "spiral"
points_per_class = 20
[model]
width = 8
[loss]
kind = "static"
base = "mse"
[train]
epochs = 300
log_every = 100
seeds = 3
[probe]
every = 20
quantities = ["hessian"]
[[also]]
train.momentum = 0.9
train.nesterov = true
train.lr = 0.1
[[also]]
train.optimizer = "adam"
train.lr = 0.01
"""


def test_each_optimiser_beside_its_own_bound(folder):
    """The panel and the table, from the probes and the formulas."""
    tiltcli.sweep(write_grid(folder, EDGE, "edge"), results=folder / "results")
    tables = tiltcli.read("edge", folder / "results")
    jobs = tables.jobs
    cells = {  # what is bound, and by what
        "static, lr 0.01, optimizer adam": ("hessian_max_preconditioned", 38 / 0.01),
        "static, lr 0.1, optimizer sgd, momentum 0.9": ("hessian_max", 38 / 2.8),
        "static, lr 1, optimizer sgd, momentum 0": ("hessian_max", 2),
    }
    traces = [trace_of(tables, j) for j in jobs_of(folder / "results" / "edge", list(jobs["job"]))]
    panel = curvature(traces, "edge").axes[0]
    assert panel.get_ylabel() == "curvature / bound"
    rows = {row[0]: row for row in at_the_edge(traces).rows}
    assert list(rows) == list(cells)
    drawn = {line.get_label(): line for line in panel.lines}
    for name, (column, bound) in cells.items():
        rate = float(name.split()[2].rstrip(","))
        own = tables.probes[tables.probes["job"].isin(jobs.loc[jobs["train.lr"] == rate, "job"])]
        shares = own.pivot(index="epoch", columns="job", values=column) / bound
        logs = np.log(shares.where(shares > 0)).mean(axis=1)
        np.testing.assert_allclose(drawn[name].get_ydata(), np.exp(logs), rtol=1e-6)
        late = mean_interval(shares.loc[150:].mean())
        assert rows[name][3:] == (f"{late.mean:.3f}", f"{late.low:.3f} … {late.high:.3f}", "3")
    assert at_the_edge([one for one in traces if one.lr == 1]) is None
    shown = tilt("report", "edge", "-o", "edge.md", cwd=folder)
    assert shown.returncode == 0, shown.stderr
    assert "**At the edge" in (folder / "edge.md").read_text()


@pytest.fixture(scope="module")
def traces(folder):
    tables = tiltcli.read("small", folder / "results")
    return [
        trace_of(tables, job)
        for job in jobs_of(folder / "results" / "small", list(tables.jobs["job"]))
    ]


def test_bands_are_geometric_means_over_seeds(traces):
    panels = curvature(traces, "small").axes
    assert [panel.get_yscale() for panel in panels] == ["log"] * 3
    for name, panel in zip(("hessian_max", "hessian_max_static", "ntk_max"), panels, strict=True):
        lines = {line.get_label(): line for line in panel.lines}
        for label, kind in (("static", "static"), ("A 20, T 500", "dynamical")):
            members = [one for one in traces if one.job["loss.kind"] == kind]
            table = np.array([one.probes[name].to_numpy() for one in members]).T
            if name == "hessian_max":
                table[1:] = np.maximum(table[1:], table[:-1])
            found = [mean_interval(np.log(row)) for row in table]
            np.testing.assert_allclose(
                lines[label].get_ydata(), np.exp([one.mean for one in found]), rtol=1e-12
            )
            assert lines[label].get_xdata().tolist() == members[0].probes["step"].tolist()


def test_a_seed_without_a_probe_is_left_out_of_the_mean(traces):
    one, two = (t for t in traces[:2])
    probes = two.probes.copy()
    probes.loc[3, "ntk_max"] = np.nan
    steps, logs = seed_table([one, type(two)(**{**vars(two), "probes": probes})], "ntk_max")
    assert np.isnan(logs[3]).tolist() == [False, True]
    assert len(steps) == len(logs) == len(one.probes)


def test_single_training_is_drawn_as_its_probes(traces):
    one = next(t for t in traces if t.job["loss.kind"] == "dynamical")
    panel = curvature([one]).axes[0]
    np.testing.assert_array_equal(panel.lines[0].get_ydata(), one.probes["hessian_max"])
    onsets = [line for line in panel.lines if line.get_label() == "onset of an instability"]
    assert onsets[0].get_xdata().tolist() == [found.onset for found in one.instabilities()]


def test_trace_marks_and_enlarges_an_instability(traces):
    one = next(t for t in traces if t.job["loss.kind"] == "dynamical" and t.instabilities())
    figure = trace(one)
    left, right = figure.axes[0], figure.axes[1]
    shaded = [patch.get_x() for patch in left.patches]
    assert shaded == [found.onset for found in one.instabilities()]
    begin, end = right.get_xlim()
    assert any(begin <= found.onset <= end for found in one.instabilities())
    changes = figure.axes[5].lines[0]
    F = one.step_losses()
    steps = np.arange(int(begin), int(end) + 1)
    np.testing.assert_array_equal(changes.get_ydata(), F[steps] - F[steps - 1])
    bound = [line for panel in figure.axes for line in panel.lines if line.get_label() == "2/η = 2"]
    assert [line.get_ydata()[0] for line in bound] == [2.0, 2.0]
    assert mpl.rcParams["axes.spines.top"]  # the user's own settings are as they were


@pytest.mark.parametrize("words", [("--where", "loss.kind == static", "--size", "one")])
def test_command(folder, words):
    shown = tilt("plot", "curvature", "small", "-o", "x.svg", *words, cwd=folder)
    assert shown.returncode == 0, shown.stderr
    assert (folder / "x.svg").read_text().startswith("<?xml")


def test_valleys_as_drawn(folder, traces):
    one = next(t for t in traces if t.job["loss.kind"] == "dynamical")
    found = valleys_of(one, "fused")
    assert (found.pulse, found.begin, found.middle) == (2, 501, 751)
    slices = {cut.step: cut for cut in found.trained}
    assert set(range(0, 2004, 501)) | {250, 751} <= set(slices)
    F = one.step_losses()
    for step, cut in slices.items():
        assert cut.losses[120] == pytest.approx(F[step], rel=1e-9)  # α = 0
    for cut in found.frozen:
        assert cut.shares[120] == pytest.approx(slices[751].shares[120], rel=1e-12)
        assert cut.gamma.tolist() == one.schedule.gamma(cut.step).tolist()
    panels = valley(one, found).axes
    width, depth = panels[2].lines[0], panels[3].lines[0]
    np.testing.assert_array_equal(width.get_xdata(), list(slices))
    np.testing.assert_array_equal(width.get_ydata(), [c.valley.width for c in found.trained])
    np.testing.assert_array_equal(depth.get_ydata(), [c.valley.depth for c in found.trained])
    shown = tilt("plot", "valley", "small", "-o", "v.svg", cwd=folder)
    assert shown.returncode == 0, shown.stderr
    refused = tilt("plot", "valley", "small@loss.kind=static", cwd=folder)
    assert refused.returncode == 2
    assert "do not change" in refused.stderr


def test_refusals(folder, traces):
    refused = tilt("plot", "curvature", "bare", cwd=folder)
    assert refused.returncode == 2
    assert "was not probed" in refused.stderr
    many = [
        type(one)(
            **{**vars(one), "job": type(one.job)(f"{i}", {**one.job.settings, "train.lr": 1.0 + i})}
        )
        for one in traces[:1]
        for i in range(9)
    ]
    with pytest.raises(UserError, match="9 lines"):
        curvature(many, "many")
    names = {line.get_label() for line in curvature(many[:2], "two").axes[0].lines}
    assert names >= {"A 20, T 500, lr 1", "A 20, T 500, lr 2"}
