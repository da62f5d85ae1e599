"""Metrics as runs of trackers, read back with the trackers' own readers against Parquet."""

import struct
import sys
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

import tiltcli
from helpers import GRID, tilt, tilt_process, write_grid
from test_faults import mounted, remount
from tiltcli.api.exporting import TRACKERS, _recalls

ONE = (
    GRID.replace("[4, 8]", "4")
    .replace("[3, 10]", "3")
    .replace("seeds = 3", "seeds = 1\nrecall = true")
)
PROBED = f'{ONE}\n[probe]\nevery = 75\nquantities = ["hessian"]\n'


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exporting")
    tiltcli.sweep(write_grid(folder, PROBED, "run"), results=folder / "results")
    return folder


def tables(place):
    found = tiltcli.read("run", place / "results")
    assert len(found.jobs) == 2 and len(found.probes) > 2
    return found


def measured(place):
    """(job, name, step) → value, from the tables; epochs are steps here."""
    found, known = tables(place), {}
    for table in (found.metrics, found.probes):
        for name in ("train_loss", "dynamical_loss", "val_accuracy", "hessian_max"):
            for row in table.to_dict("records") if name in table else ():
                if not pd.isna(row[name]):
                    known[row["job"], name, row["step"]] = row[name]
    assert len(found.recall) > 2 * 3 * 2
    for row in found.recall.to_dict("records"):
        known[row["job"], f"recall/{row['part']}/{row['class']}", row["epoch"]] = row["recall"]
    return known


def export(place, to, run=tilt):
    """Export twice; what is there is not written again."""
    shown = run("export", "run", "--to", to, cwd=place)
    assert shown.returncode == 0, shown.stderr
    assert "written: 2 jobs; " in shown.stderr and "Warning" not in shown.stderr
    again = tilt("export", "run", "--to", to, cwd=place)
    assert "written: 0 jobs; 2 were there already; " in again.stderr


def events(folder):
    """Scalars of TensorBoard's files, records of (length, its checksum, an event, its checksum)."""
    from tensorboardX.proto.event_pb2 import Event

    for path in folder.glob("events.*"):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            yield from ((one.tag, event.step, one.simple_value) for one in event.summary.value)
            at += 16 + length


def test_tensorboard(place):
    export(place, "tensorboard")
    wanted = measured(place)
    for job in tables(place).jobs.itertuples():
        folder = place / "runs" / "run" / job.job
        found = {(tag, step): value for tag, step, value in events(folder)}
        for (own, name, step), value in wanted.items():
            if own == job.job:
                assert found[name, step] == np.float32(value)
        assert found["final/test_accuracy", 0] == np.float32(job.test_accuracy)
    assert not list((place / "runs").glob(".*"))


def test_a_full_disk(place, tmp_path):
    """It is said, not waited for; once there is room the same command writes all."""
    disk = tmp_path / "disk"
    words = ["export", "run", "--to", "tensorboard", "-o", disk]
    with mounted(disk, "size=8k"):
        full = tilt(*words, cwd=place)
        assert full.returncode == 2 and "the disk is full" in full.stderr
        assert full.stderr.count("\n") == 1
        remount(disk, "size=8m")
        assert tilt(*words, cwd=place).returncode == 0
        assert len(list(disk.glob("run/*/events.*"))) == 2 and not list(disk.rglob(".*"))


class Client:
    """MLflow's client, so far as it is used, with its limits: the library itself takes a minute."""

    runs: ClassVar[list[SimpleNamespace]] = []
    uris: ClassVar[set[str]] = set()
    experiments: ClassVar[dict[str, str]] = {}

    def __init__(self, tracking_uri):
        self.uris.add(tracking_uri)

    def get_experiment_by_name(self, name):
        known = self.experiments.get(name)
        return known and SimpleNamespace(experiment_id=known)

    def create_experiment(self, name):
        return self.experiments.setdefault(name, "7")

    def search_runs(self, experiments, query, max_results):
        assert experiments == ["7"] and query == "status != 'RUNNING'" and max_results <= 50_000
        return [one for one in self.runs if one.status]

    def create_run(self, experiment, run_name, tags):
        info = SimpleNamespace(run_id=len(self.runs))
        data = SimpleNamespace(tags=tags, params={}, metrics={})
        self.runs.append(SimpleNamespace(info=info, data=data, status=None, name=run_name))
        return self.runs[-1]

    def log_batch(self, run_id, metrics=(), params=()):
        assert len(metrics) <= 1000 and len(params) <= 100
        data = self.runs[run_id].data
        data.params |= dict(params)
        data.metrics |= {(name, step): value for name, value, _, step in metrics}

    def set_terminated(self, run_id, status):
        self.runs[run_id].status = status


def test_mlflow(place, monkeypatch):
    library = ModuleType("mlflow")
    library.MlflowClient = Client
    library.entities = ModuleType("mlflow.entities")
    library.entities.Metric = lambda key, value, timestamp, step: (key, value, timestamp, step)
    library.entities.Param = lambda key, value: (key, value)
    for name in ("mlflow", "sqlalchemy", "alembic", "mlflow.entities"):
        monkeypatch.setitem(sys.modules, name, library.entities if "." in name else library)
    for said in ("written: 2 jobs; mlflow ui", "written: 0 jobs; 2 were there already"):
        shown = tilt("export", "run", "--to", "mlflow", cwd=place)
        assert shown.returncode == 0 and said in shown.stderr
    wanted, jobs = measured(place), tables(place).jobs.set_index("job")
    assert Client.uris == {"sqlite:///mlflow.db"}
    assert {one.data.tags["tiltcli.job"] for one in Client.runs} == set(jobs.index)
    for one in Client.runs:
        job, settings = one.data.tags["tiltcli.job"], one.data.params
        assert one.status == "FINISHED" and one.name == job
        assert settings["loss.kind"] == jobs.loc[job, "loss.kind"]
        assert ("loss.amplitude" in settings) == (settings["loss.kind"] == "dynamical")
        assert one.data.metrics["final_test_accuracy", 0] == jobs.loc[job, "test_accuracy"]
        for (own, name, step), value in wanted.items():
            assert own != job or one.data.metrics[name, step] == value


def test_wandb_offline(place):
    export(place, "wandb-offline", tilt_process)  # the library leaves threads
    for job in tables(place).jobs["job"]:
        (folder,) = (place / "wandb").glob(f"offline-run-*-{job}")
        written = (folder / f"run-{job}.wandb").read_bytes()
        for text in (
            b"train_loss",
            b"hessian_max",
            b"loss.kind",
            b"final/test_accuracy",
            b"recall/val/2",
        ):
            assert text in written


@pytest.mark.parametrize("to", TRACKERS)
def test_a_missing_library_is_named_with_its_extra(place, to, monkeypatch):
    monkeypatch.setitem(sys.modules, TRACKERS[to].needs[0], None)
    refused = tilt("export", "run", "--to", to, "-o", "elsewhere", cwd=place)
    assert refused.returncode == 2 and not (place / "elsewhere").exists()
    assert f"pip install 'tiltcli[{TRACKERS[to].extra}]'" in refused.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "mlflw"], "did you mean mlflow?"),
        (["--to", "tensorboard", "--best", "val_accuracy"], "--where and --job choose jobs"),
        ([], "give -o FILE for a network, or --to for metrics"),
        (["--to", "tensorboard", "--job", "nope"], "no job nope"),
    ],
)
def test_wrong_words(place, words, said):
    refused = tilt("export", "run", *words, cwd=place)
    assert refused.returncode == 2 and said in refused.stderr


def test_recalls_have_names_that_every_tracker_takes():
    classes = ["a b", "a/b", "cé-1.0"]
    recall = pd.DataFrame({"job": "x", "epoch": 4, "part": "val", "class": classes})
    recall["recall"] = [0.5, 0.25, np.nan]
    recall = pd.concat([recall, recall.assign(part="train", recall=1.0)])
    recall = recall.astype({"job": "category", "part": "category", "class": "category"})
    metrics = pd.DataFrame({"job": ["x"], "epoch": [4], "step": [40]})
    rows = _recalls(SimpleNamespace(recall=recall, metrics=metrics)).to_dict("records")
    names = ["recall/train/0_a_b", "recall/train/1_a_b", "recall/train/cé-1.0"]
    names += ["recall/val/0_a_b", "recall/val/1_a_b"]
    assert rows == [{"job": "x", "step": 40} | dict(zip(names, [1, 1, 1, 0.5, 0.25], strict=True))]
