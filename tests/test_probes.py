"""Probes along a training, through the grid file and the command's own path."""

import re

import numpy as np
import pandas as pd
import pytest

import tiltcli
from helpers import GRID as GRID_TEXT
from helpers import UNASKED, save_case, tilt, write_grid
from tiltcli.errors import PROBE_COLUMNS, UserError

REFERENCE = "tests/data/curvature_a.npz"
GRID = {
    "name": "probed",
    "data": {"kind": "spiral", "points_per_class": 20},
    "model": {"width": [4, 9]},
    "loss": {"kind": ["static", "dynamical"], "amplitude": 20, "period": 30},
    "train": {"epochs": 100, "seeds": 2, "log_every": 7},
    "probe": {"every": 15},
}


def run(tmp_path, name="probed", engine="auto", workers=0, **tables):
    grid = {**GRID, "name": name, **tables}
    grid = {key: value for key, value in grid.items() if value is not None}
    summary = tiltcli.sweep(grid, results=tmp_path, engine=engine, workers=workers)
    assert not summary.failures
    return tiltcli.read(name, tmp_path)


def relative(found, wanted):
    return np.abs(np.asarray(found) / np.asarray(wanted) - 1).max()


@pytest.mark.parametrize("points", [None, 50])
def test_reference_eigenvalues(tmp_path, points):
    """Dense eigenvalues of the paper's run; index i is epoch i + 1, so every 51st meets four."""
    with np.load("tests/data/run_a.npz") as case:
        save_case(tmp_path, *(case[k] for k in ("X", "y", "W1", "b1", "W2", "b2")))
    probe = {"every": 51} | ({"ntk_points": points, "quantities": ["ntk"]} if points else {})
    probes = run(
        tmp_path,
        data={"kind": "file", "path": str(tmp_path / "data.npz")},
        model={"width": 100, "init_file": str(tmp_path / "weights.npz")},
        loss={"amplitude": 70, "period": 5000, "rest": 1},
        train={"epochs": 3900, "dtype": "float64"},
        probe=probe,
    ).probes
    assert probes["epoch"].tolist() == list(range(0, 3901, 51))
    assert probes["step"].tolist() == probes["epoch"].tolist()
    with np.load(REFERENCE) as reference:
        at = np.isin(reference["step"] + 1, probes["epoch"])
        rows = probes[probes["epoch"].isin(reference["step"][at] + 1)]
        assert len(rows) == 4
        if points:
            assert relative(rows["ntk_max"], reference["ntk50_traced"][at]) < 1e-6
            assert rows["hessian_max"].isna().all()
            return
        top = rows[["hessian_max", "hessian_second", "hessian_third"]]
        assert relative(top, reference["hess_w_top3"][at]) < 1e-6
        assert relative(rows["hessian_min"], reference["hess_w_min"][at]) < 1e-6
        assert relative(rows["hessian_max_static"], reference["hess_std_top3"][at][:, 0]) < 1e-6
        assert relative(rows["ntk_max"], reference["ntk300_traced"][at]) < 1e-6
        assert relative(rows["ntk_max_full"], reference["ntk900_full"][at]) < 1e-6


@pytest.mark.parametrize("engine", ["fused", "torch"])
def test_probing_changes_no_training(tmp_path, engine):
    with_probes = run(tmp_path, "with", engine)
    without = run(tmp_path, "without", engine, probe=None)
    pd.testing.assert_frame_equal(with_probes.metrics, without.metrics)
    drop = ["seconds"]
    pd.testing.assert_frame_equal(
        with_probes.jobs.drop(columns=drop), without.jobs.drop(columns=drop)
    )
    assert without.probes.empty
    assert list(without.probes.columns) == [column.name for column in PROBE_COLUMNS]
    epochs = with_probes.probes.groupby("job")["epoch"].apply(list)
    assert len(epochs) == 8
    assert all(some == [0, 15, 30, 45, 60, 75, 90] for some in epochs)
    others = ["hessian_max_preconditioned", "batch_sharpness", *UNASKED]
    numbers = with_probes.probes.drop(columns=["job", *others])
    assert np.isfinite(numbers).all().all()
    assert with_probes.probes[others].isna().all().all()


def test_pictures_are_probed_too(tmp_path):
    grid = {
        "data": {"kind": "digits"},
        "model": {"kind": "myrtle5", "width": 1},
        "loss": {"amplitude": 3, "period": 5},
        "train": {"epochs": 3, "lr": 0.02, "batch_size": 256, "momentum": 0.9},
    }
    probe = {"every": 2, "ntk_points": 20}
    with_probes = run(tmp_path, "with", probe=probe, **grid)
    without = run(tmp_path, "without", probe=None, **grid)
    pd.testing.assert_frame_equal(with_probes.metrics, without.metrics)
    probes = with_probes.probes
    assert probes["epoch"].tolist() == [0, 2]
    assert probes["step"].tolist() == [0, 2 * 5]
    absent = ["hessian_max_preconditioned", "stability_bound", *UNASKED]  # minibatches, momentum
    assert probes[absent].isna().all().all()
    assert probes.drop(columns=absent).notna().all().all()
    assert (probes["hessian_max"] >= probes["hessian_second"]).all()
    assert (probes["ntk_max_full"] <= 10 * probes["ntk_max"] * (1 + 1e-9)).all()
    assert (probes["hessian_trace_error"] > 0).all()


def test_the_last_epoch_is_probed_where_it_is_a_multiple(tmp_path):
    probes = run(tmp_path, model={"width": 4}, probe={"every": 50}).probes
    assert set(probes["epoch"]) == {0, 50, 100}


def test_both_engines_and_any_number_of_workers_give_the_same_probes(tmp_path):
    train = GRID["train"] | {"dtype": "float64"}
    fused = run(tmp_path, "a", "fused", workers=2, train=train).probes
    torch = run(tmp_path, "b", "torch", workers=2, train=train).probes
    numbers = [c.name for c in PROBE_COLUMNS if c.type == "float64" and c.name != "lr"]
    np.testing.assert_allclose(fused[numbers], torch[numbers], rtol=1e-7, atol=1e-10)
    tiltcli.sweep({**GRID, "train": train, "name": "c"}, results=tmp_path, workers=1)
    pd.testing.assert_frame_equal(tiltcli.read("c", tmp_path).probes, fused)


def test_a_diverged_job_is_probed_up_to_its_divergence(tmp_path):
    tables = run(
        tmp_path,
        loss={"kind": "static"},
        train={"epochs": 60, "lr": 1e4, "seeds": 2},
        probe={"every": 1, "quantities": ["hessian"]},
    )
    jobs = tables.jobs.set_index("job")
    assert set(jobs["outcome"]) == {"diverged", "completed"}
    last = tables.probes.groupby("job")["epoch"].max().reindex(jobs.index)
    assert (last == jobs["epochs"] - (jobs["outcome"] == "diverged")).all()


def test_dry_run_says_what_probes_cost(tmp_path):
    text = GRID_TEXT + "[probe]\nevery = 100\n"
    write_grid(tmp_path, text)
    shown = tilt("sweep", "grid.toml", "--dry-run", cwd=tmp_path)
    # 200 epochs; 2 widths × 3 seeds × (static and 2 amplitudes)
    assert re.search(r"probes of hessian and ntk: 54, \S+ ms each, .* on one core", shown.stdout)
    write_grid(tmp_path, text + 'quantities = ["hessian"]\n')
    assert "probes of hessian: 54, " in tilt("sweep", "grid.toml", "--dry-run", cwd=tmp_path).stdout
    assert not (tmp_path / "results").exists()


def test_all_faults_of_the_table_at_once(tmp_path):
    grid = GRID | {"probe": {"every": -1, "quantities": ["hesian"], "ntk_points": 0, "evry": 2}}
    with pytest.raises(UserError) as caught:
        tiltcli.sweep(grid, results=tmp_path)
    text = str(caught.value)
    assert "probe.every: got -1; allowed: a whole number of epochs ≥ 1" in text
    assert "unknown quantity 'hesian'" in text
    assert "did you mean hessian?" in text
    assert "probe.ntk_points: got 0" in text
    assert "probe.evry: unknown; allowed: probe.every, " in text
    assert "did you mean probe.every?" in text
    assert not list(tmp_path.iterdir())


def test_more_kernel_points_than_training_points(tmp_path):
    grid = GRID | {"probe": {"every": 1, "ntk_points": 61}}
    with pytest.raises(UserError, match=r"probe\.ntk_points: got 61; there are 60 training points"):
        tiltcli.sweep(grid, results=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_grid_may_gain_probes(tmp_path):
    run(tmp_path, probe=None)
    summary = tiltcli.sweep(GRID, results=tmp_path)
    assert summary.ended.total() == 0
    (note,) = summary.notes
    assert note == (
        "8 finished jobs lack probes that [probe] asks for; tiltcli probe probed adds them"
    )
    assert "[probe]" in (tmp_path / "probed" / "sweep.toml").read_text()
