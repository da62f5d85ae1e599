"""What is drawn is what was measured; files are the same bytes twice; errors are told."""

import numpy as np
import pandas as pd
import pytest

import tiltcli
from helpers import GRID, tilt, tilt_process, write_grid
from tiltcli.analysis.thinning import thin
from tiltcli.errors import UserError
from tiltcli.evaluation.phase_map import phase_maps
from tiltcli.plots.curves import curves
from tiltcli.plots.gamma import gamma_figure
from tiltcli.plots.phase import phase
from tiltcli.plots.style import save
from tiltcli.schedule import Schedule


def job(kind, width, amplitude, period, value, seed=0, outcome="completed", **more):
    return {
        "job": f"{kind}{width}{amplitude}{period}{value}{seed}{more}",
        "outcome": outcome,
        "data.classes": 4,
        "model.width": width,
        "loss.kind": kind,
        "loss.amplitude": amplitude,
        "loss.period": period,
        "train.seed": seed,
        "train_accuracy": value,
        "val_accuracy": value,
        **more,
    }


JOBS = pd.DataFrame(
    [
        job("static", 10, None, None, 0.3),
        job("static", 10, None, None, 0.5, 1),
        job("dynamical", 10, 3.0, 10, 0.6),
        job("dynamical", 10, 3.0, 10, 0.8, 1),
        job("dynamical", 10, 3.0, 50, 0.95),
        job("dynamical", 10, 3.0, 50, 0.9, 1, "diverged"),  # counts as chance, 1/4
        job("dynamical", 10, 70.0, 10, 0.1, 0, "diverged"),  # less than chance already
        job("dynamical", 30, 70.0, 50, 0.9),
    ]
)


def test_phase_map_holds_the_means():
    first, second = phase_maps(JOBS, "val_accuracy")
    assert (first.ys, first.xs) == ((3.0, 70.0), (10, 50))
    assert (first.name, second.name) == ("width 10", "width 30")
    np.testing.assert_allclose(first.means, [[0.7, 0.6], [0.1, np.nan]])
    assert first.jobs.tolist() == first.counted.tolist() == [[2, 2], [1, 0]]
    assert first.lost.tolist() == [[0, 1], [1, 0]]
    assert (first.static.mean, first.static.n) == (pytest.approx(0.4), 2)
    assert second.static.n == 0
    np.testing.assert_allclose(first.halves[0, 0], 12.7062 * 0.1, rtol=1e-5)  # t(0.975, 1)·s/√2
    # Of two better cells the one that lost a job is not the best.
    assert (first.best, second.best) == ((0, 0), (1, 1))


def rates():
    """Static and one cell at two rates that differ by far; the better one is no more seeds."""
    rows = []
    for seed in range(3):
        for lr, level in ((0.1, 0.3), (1.0, 0.8)):
            more = {"train.lr": lr}
            rows.append(job("static", 10, None, None, level + 0.01 * seed, seed, **more))
            for amplitude in (3.0, 30.0):
                value = level + 0.05 + 0.001 * amplitude + 0.02 * seed
                rows.append(job("dynamical", 10, amplitude, 50, value, seed, **more))
    return pd.DataFrame(rows)


def test_phase_has_a_panel_for_each_rate():
    low, high = phase_maps(rates(), "val_accuracy")
    assert (low.name, high.name) == ("lr 0.1", "lr 1")
    assert low.static.mean == pytest.approx(0.31)
    assert high.static.mean == pytest.approx(0.81)
    np.testing.assert_allclose(high.means, [[0.873], [0.9]])
    assert high.counted.tolist() == [[3], [3]]
    figure = phase(rates(), "val_accuracy", "x")
    assert [axes.get_title() for axes in figure.axes if axes.images] == ["lr 0.1", "lr 1"]
    assert "n = 3 per cell" in figure.get_suptitle()


def test_map_of_other_axes_has_static_beside_the_tilted():
    (found,) = phase_maps(rates(), "val_accuracy", "train.lr", "loss.amplitude", "map")
    assert (found.xs, found.ys) == ((0.1, 1.0), ("static", 3.0, 30.0))
    np.testing.assert_allclose(found.means, [[0.31, 0.81], [0.373, 0.873], [0.4, 0.9]])
    assert found.best == (2, 1)
    jobs = pd.concat([rates(), rates().assign(**{"model.width": 20})])
    jobs["job"] = [str(i) for i in range(len(jobs))]
    maps = phase_maps(jobs, "val_accuracy", "train.lr", "model.width", "map")
    assert [one.name for one in maps] == ["static", "dynamical, A 3", "dynamical, A 30"]
    np.testing.assert_allclose(maps[0].means, [[0.31, 0.81]] * 2)
    np.testing.assert_allclose(maps[2].means, [[0.4, 0.9]] * 2)


def test_a_setting_that_does_not_apply_makes_a_panel_too():
    jobs = rates().assign(**{"train.optimizer": "sgd", "train.momentum": 0.5})
    adam = jobs["train.lr"] == 0.1
    jobs.loc[adam, ["train.optimizer", "train.momentum"]] = "adam", None
    jobs["train.lr"] = 0.1
    assert {one.name for one in phase_maps(jobs, "val_accuracy")} == {
        "optimizer adam",
        "optimizer sgd",
    }


def test_too_many_panels_ask_for_where():
    jobs = pd.concat([rates().assign(**{"train.weight_decay": 0.1 * i}) for i in range(13)])
    jobs["job"] = [str(i) for i in range(len(jobs))]
    with pytest.raises(UserError, match="26 panels") as refused:
        phase(jobs, "val_accuracy")
    said = str(refused.value)
    assert "--where 'train.weight_decay == 0'" in said
    assert "train.lr: 0.1, 1" in said


def test_phase_is_drawn_as_computed():
    figure = phase(JOBS, "val_accuracy")
    panels = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in panels] == ["width 10", "width 30"]
    assert figure.get_suptitle() == "validation accuracy, mean ± 95% interval, n = 1 to 2 per cell"
    drawn = panels[0].images[0].get_array()
    # Where every job was lost the colour would say nothing: hatched, its count beside its mean.
    np.testing.assert_allclose(np.ma.filled(drawn, np.nan), [[0.7, 0.6], [np.nan, np.nan]])
    texts = sorted(text.get_text() for text in panels[0].texts)
    assert texts == ["0.100\n1 lost", "0.600\n±4.447\n1 lost", "0.700\n±1.271"]
    bars = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
    marks = [sorted({round(line.get_ydata()[0], 9) for line in axes.lines}) for axes in bars]
    assert marks == [[0.4], []]  # only width 10 has a static loss


def paired(kind, seed, value, amplitude=None, period=None):
    return job(kind, 10, amplitude, period, value, seed)


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
