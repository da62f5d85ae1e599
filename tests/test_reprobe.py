"""tiltcli probe: curvature added to a run that is finished."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import tiltcli
from helpers import UNASKED, tilt
from tiltcli.curvature import memory
from tiltcli.errors import UserError
from tiltcli.execution import reprobing as reprobe
from tiltcli.grid import ProbeSettings
from tiltcli.store import parts

GRID = {
    "name": "late",
    "data": {"kind": "spiral", "points_per_class": 15},
    "model": {"width": 5},
    "loss": {"kind": ["static", "dynamical"], "amplitude": 20, "period": 30},
    "train": {"epochs": 60, "seeds": 2},
}


@pytest.fixture
def run(tmp_path):
    tiltcli.sweep(GRID, results=tmp_path)
    return tmp_path / "late"


def add(run, settings, **options):
    return reprobe.probe_run(run.name, settings, results=run.parent, **options)


def test_added_probes_are_those_made_along_the_way(run, tmp_path):
    before = tiltcli.read(run)
    found = add(run, ProbeSettings(every=20))
    assert (found.jobs, found.probes, found.refused) == (4, 16, {})
    after = tiltcli.read(run)
    pd.testing.assert_frame_equal(after.jobs, before.jobs)
    pd.testing.assert_frame_equal(after.metrics, before.metrics)
    tiltcli.sweep({**GRID, "name": "with", "probe": {"every": 20}}, results=tmp_path)
    pd.testing.assert_frame_equal(after.probes, tiltcli.read("with", tmp_path).probes)


def test_later_probes_join_earlier_ones_without_repeats(run):
    add(run, ProbeSettings(("hessian",), every=20))
    whole = add(run, ProbeSettings(every=10))
    assert whole.probes == 4 * 7
    again = add(run, ProbeSettings(every=10))
    assert (again.jobs, again.before) == (0, 4)
    first = tiltcli.read(run).probes
    assert not first.duplicated(["job", "epoch"]).any()
    absent = ["hessian_max_preconditioned", "batch_sharpness", *UNASKED]
    assert first.drop(columns=absent).notna().all().all()
    add(run, ProbeSettings(("ntk",), epochs=(10, 60), ntk_points=7))
    second = tiltcli.read(run).probes
    changed = second["ntk_points"] == 7
    assert set(second.loc[changed, "epoch"]) == {10, 60}
    assert changed.sum() == 8
    hessian = [name for name in first if name.startswith("hessian")]
    pd.testing.assert_frame_equal(first[hessian], second[hessian])
    raw = pd.concat([pq.read_table(path).to_pandas() for path in (run / "probes").iterdir()])
    assert len(parts.live(run)) == 1  # however many parts the sweep wrote
    assert not raw.duplicated(["job", "epoch"]).any()


def test_another_training_is_refused(run, monkeypatch):
    """What the run holds decides; here it is made to hold something else."""
    (path,) = (run / "jobs").glob("*.parquet")
    table = pq.read_table(path)
    losses = np.nextafter(table["train_loss"].to_numpy(), 1)
    at = table.schema.get_field_index("train_loss")
    pq.write_table(table.set_column(at, table.schema.field(at), [losses]), path)
    found = add(run, ProbeSettings(every=20))
    assert found.probes == 0
    assert len(found.refused) == 4
    assert all("not the same training" in reason for reason in found.refused.values())
    assert tiltcli.read(run).probes.empty


def test_selections(run):
    found = add(run, ProbeSettings(every=30), where=["loss.kind == static", "train.seed == 1"])
    assert found.jobs == 1
    job = tiltcli.read(run).probes["job"].iloc[0]
    assert add(run, ProbeSettings(every=30), job=job[:6]).before == 1
    with pytest.raises(UserError, match="--job: no job zzz in late"):
        add(run, ProbeSettings(every=30), job="zzz")


def test_epochs_beyond_the_end_or_the_divergence(run, tmp_path):
    with pytest.raises(UserError) as caught:
        add(run, ProbeSettings(epochs=(10, 61)))
    assert len(caught.value.faults) == 4
    assert "got 61; job" in str(caught.value)
    assert "ends at epoch 60" in str(caught.value)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError) as caught:
        patch.setattr(reprobe, "SHOWN", 1)
        add(run, ProbeSettings(epochs=(61,)))
    assert [str(one) for one in caught.value.faults][1:] == ["--epochs: … 4 jobs in all"]
    wild = {
        **GRID,
        "name": "wild",
        "loss": {"kind": "static"},
        "train": {"epochs": 60, "seeds": 1, "lr": 1e6},
    }
    tiltcli.sweep(wild, results=tmp_path)
    epochs = tiltcli.read("wild", tmp_path).jobs["epochs"].iloc[0]
    with pytest.raises(UserError, match=f"diverged at epoch {epochs}; allowed: 0 to {epochs - 1}"):
        add(tmp_path / "wild", ProbeSettings(epochs=(epochs,)))
    assert add(tmp_path / "wild", ProbeSettings(every=1)).probes == epochs


def test_too_large_for_memory(run, monkeypatch):
    monkeypatch.setattr(memory, "machine_memory", lambda: 20_000)
    with pytest.raises(UserError) as caught:
        add(run, ProbeSettings(every=20))
    text = str(caught.value)
    assert "--quantities: the Hessian of 33 parameters would take" in text
    assert "--ntk-points: the full tangent kernel of 33 parameters on 45 points" in text
    assert "points fit: give fewer" in text
    assert not (run / "probes").exists()


def test_the_command(run):
    def probe(*words):
        return tilt("probe", "late", "--results", run.parent, *words, cwd=run.parent)

    bad = probe("--every", "0", "--epochs", "3", "--quantities", "hesian", "--ntk-points", "0")
    assert bad.returncode == 2
    assert bad.stderr.count("error: ") == 4
    assert "did you mean hessian?" in bad.stderr
    assert "the run's grid has no [probe]" in probe().stderr
    assert "--epochs: got 1,x; allowed" in probe("--epochs", "1,x").stderr
    good = probe("--every", "30", "--quantities", "hessian")
    assert good.returncode == 0
    assert "12 probes of 4 jobs added" in good.stderr
    assert tiltcli.read(run).probes["ntk_max"].isna().all()
