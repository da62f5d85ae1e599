"""What is drawn is what was measured; files are the same bytes twice; errors are told."""

import numpy as np
import pandas as pd
import pytest

import tiltcli
from helpers import GRID, tilt, tilt_process, write_grid
from tiltcli.analysis.thinning import thin
from tiltcli.errors import UserError
from tiltcli.evaluation.cells import mixed
from tiltcli.evaluation.phase_map import phase_maps
from tiltcli.plots.curves import curves
from tiltcli.plots.gamma import gamma_figure
from tiltcli.plots.phase import phase
from tiltcli.plots.style import save
from tiltcli.schedule import Schedule


def job(kind, width, amplitude, period, value, outcome="completed"):
    return {
        "job": f"{kind}{width}{amplitude}{period}{value}",
        "outcome": outcome,
        "model.width": width,
        "loss.kind": kind,
        "loss.amplitude": amplitude,
        "loss.period": period,
        "val_accuracy": value,
    }


JOBS = pd.DataFrame(
    [
        job("static", 10, None, None, 0.3),
        job("static", 10, None, None, 0.5),
        job("dynamical", 10, 3.0, 10, 0.6),
        job("dynamical", 10, 3.0, 10, 0.8),
        job("dynamical", 10, 3.0, 50, 0.2),
        job("dynamical", 10, 3.0, 50, np.nan, "diverged"),
        job("dynamical", 10, 70.0, 10, np.nan, "diverged"),
        job("dynamical", 30, 70.0, 50, 0.9),
    ]
)


def test_phase_map_holds_the_means():
    first, second = phase_maps(JOBS, "val_accuracy")
    assert (first.amplitudes, first.periods) == ((3.0, 70.0), (10, 50))
    np.testing.assert_allclose(first.means, [[0.7, 0.2], [np.nan, np.nan]])
    assert first.jobs.tolist() == [[2, 2], [1, 0]]
    assert first.lost.tolist() == [[0, 1], [1, 0]]
    assert (first.static.mean, first.static.n) == (pytest.approx(0.4), 2)
    assert second.static.n == 0
    np.testing.assert_allclose(first.halves[0, 0], 12.7062 * 0.1, rtol=1e-5)  # t(0.975, 1)·s/√2
    # Of two better cells the one that lost a job is not the best.
    assert (first.best, second.best) == ((0, 0), (1, 1))


def test_phase_is_drawn_as_computed():
    figure = phase(JOBS, "val_accuracy")
    panels = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in panels] == ["width 10", "width 30"]
    assert figure.get_suptitle() == "validation accuracy, mean ± 95% interval, n = 1 to 2 per cell"
    drawn = panels[0].images[0].get_array()
    np.testing.assert_allclose(np.ma.filled(drawn, np.nan), [[0.7, 0.2], [np.nan, np.nan]])
    texts = {text.get_text() for text in panels[0].texts}
    assert texts == {"0.700\n±1.271", "0.200", "1×"}
    bars = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
    marks = [sorted({round(line.get_ydata()[0], 9) for line in axes.lines}) for axes in bars]
    assert marks == [[0.4], []]  # only width 10 has a static loss


def paired(kind, seed, value, amplitude=None, period=None):
    return job(kind, 10, amplitude, period, value) | {"train.seed": seed}


def test_triangles_mark_what_differs_from_static():
    """Paired: the cell at T 50 is above static at every seed though the means' intervals meet."""
    rows = []
    for seed, level in enumerate([0.2, 0.4, 0.6, 0.8]):
        rows.append(paired("static", seed, level))
        rows.append(paired("dynamical", seed, level + 0.05 + 0.001 * seed, 3.0, 50))
        rows.append(paired("dynamical", seed, level + 0.05 * (-1) ** seed, 3.0, 300))
        rows.append(paired("dynamical", seed, level - 0.05 - 0.001 * seed, 3.0, 1500))
    (found,) = phase_maps(pd.DataFrame(rows), "val_accuracy")
    assert found.against.tolist() == [[1, 0, -1]]
    shown = phase(pd.DataFrame(rows), "val_accuracy").axes[0]
    assert [line.get_marker() for line in shown.lines] == ["^", "v"]


def test_what_a_mean_hides_is_named():
    jobs = JOBS.assign(**{"train.lr": 1.0, "loss.rest": 0.0, "data.seed": range(len(JOBS))})
    assert mixed(jobs) == []
    jobs.loc[3, "train.lr"], jobs.loc[4, "loss.rest"] = 0.5, 1.0
    assert mixed(jobs) == ["train.lr", "loss.rest"]


@pytest.mark.parametrize(
    ("jobs", "metric", "said"),
    [
        (JOBS, "val_acuracy", "did you mean val_accuracy"),
        (JOBS[JOBS["loss.kind"] == "static"], "val_accuracy", "needs dynamical jobs"),
        (JOBS.assign(val_accuracy=np.nan), "val_accuracy", "is empty"),
    ],
)
def test_phase_refuses(jobs, metric, said):
    with pytest.raises(UserError, match=said):
        phase(jobs, metric)


def test_thinning_keeps_the_extremes():
    values = np.sin(np.arange(70_000) / 3.0)
    values[31_234], values[50_001] = 9.0, -9.0
    kept = thin(values, 500)
    assert len(kept) <= 1002
    assert {0, 31_234, 50_001, 69_999} <= set(kept.tolist())
    assert (np.diff(kept) > 0).all()
    assert thin(np.arange(10.0)).tolist() == list(range(10))


def test_gamma_is_the_schedule():
    schedule = Schedule(3, 5.0, 10, 1)
    panel = gamma_figure(schedule).axes[0]
    lines = [line for line in panel.lines if line.get_label().startswith("class")]
    assert len(lines) == 3
    for i, line in enumerate(lines):
        np.testing.assert_allclose(line.get_ydata(), schedule.gamma(np.arange(34))[:, i])


def test_curves_draw_means():
    metrics = pd.DataFrame(
        [
            {"job": one, "epoch": epoch, "train_accuracy": 0.1 * epoch + i * 0.05}
            for i, one in enumerate(JOBS["job"])
            for epoch in range(3)
        ]
    )
    panel = curves(JOBS.assign(train_accuracy=0.1), metrics, "train_accuracy").axes[0]
    static, dynamical = panel.lines
    assert (static.get_label(), dynamical.get_label()) == ("static", "dynamical")
    np.testing.assert_allclose(static.get_ydata(), [0.025, 0.125, 0.225])
    np.testing.assert_allclose(dynamical.get_ydata(), [0.125, 0.225, 0.325])
    assert panel.get_title() == "width 10: A 3, T 10"
    (low, high) = panel.collections[0].get_paths()[0].get_extents().get_points()[:, 1]
    assert (low, high) == (
        pytest.approx(0.025 - 12.7062 * 0.025),
        pytest.approx(0.225 + 12.7062 * 0.025),
    )
    with pytest.raises(UserError, match="did you mean train_accuracy"):
        curves(JOBS, metrics, "train_acuracy")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("plots")
    tiltcli.sweep(write_grid(path), results=path / "results")
    single = GRID.replace('["static", "dynamical"]', '"dynamical"').replace("[3, 10]", "10")
    single = single.replace("[4, 8]", "4").replace("seeds = 3", "seeds = 1")
    single = single.replace("log_every = 50", "log_every = 1")
    tiltcli.sweep(write_grid(path, single, "single"), results=path / "results")
    return path


@pytest.mark.parametrize("kind", ["phase", "gamma", "trace", "curves", "compare"])
def test_command_draws_every_kind(folder, kind):
    shown = tilt("plot", kind, "grid", cwd=folder)
    assert shown.returncode == 0, shown.stderr
    path = folder / shown.stdout.strip()
    assert path == folder / "results" / "grid" / "figures" / f"{kind}.png"
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_same_run_gives_the_same_bytes(folder, suffix):
    figures = []
    for name, run in (("one", tilt), ("two", tilt_process)):
        path = folder / f"{name}.{suffix}"
        words = ("plot", "trace", "single", "-o", path, "--zoom", "20,60")
        assert run(*words, cwd=folder).returncode == 0
        figures.append(path.read_bytes())
    assert figures[0] == figures[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fase", "grid"], "did you mean phase"),
        (["phase", "nope"], "no run 'nope'"),
        (["phase", "grid", "--metric", "val_acc"], "did you mean val_accuracy"),
        (["trace", "grid", "--job", "zzz"], "no job zzz"),
        (["trace", "grid", "--zoom", "5,1"], "two rising whole numbers"),
        (["gamma", "grid", "--zoom", "1,5"], "gamma has no use for --zoom"),
        (["phase", "grid", "single"], "phase draws 1 run, not 2"),
        (["phase", "grid", "--style", "darc"], "did you mean dark"),
        (["trace", "single", "--zoom", "9000,9100"], "fewer than two logged steps"),
        (["gamma", "grid", "--where", "loss.kind == static"], "do not change"),
        (["phase", "grid", "-o", "x.jpeg"], "ends in one of"),
        (["phase", "grid", "-o", "no/x.png"], "there is no folder"),
    ],
)
def test_wrong_guesses(folder, words, said):
    refused = tilt("plot", *words, cwd=folder)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


def test_save_refuses_before_it_writes(tmp_path):
    with pytest.raises(UserError, match="ends in one of"):
        save(gamma_figure(Schedule(2, 2.0, 4)), tmp_path / "figure.bmp")
    assert not list(tmp_path.iterdir())
