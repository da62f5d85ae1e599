"""Fast expansion of grids against the plain way: every combination worked out by itself."""

import itertools
import pickle
import tracemalloc
from pathlib import Path

import pytest

from tiltcli.grid import SETTINGS, job_id, parse_sweep
from tiltcli.grid.setting_types import REQUIRED
from tiltcli.grid.settings import finish
from tiltcli.grid.shards import Shard

HEAD = """
[data]
kind = ["spiral", "digits"]
noise = [0.1, 0.2]
[model]
width = [3, 10, 30]
[loss]
kind = ["static", "dynamical"]
amplitude = [3, 10]
period = [5, 50]
[train]
epochs = [10, 20]
"""

GRIDS = {
    "deciding axes": HEAD + 'optimizer = ["sgd", "adam"]\nmomentum = [0.0, 0.5]\nseeds = 2\n'
    "nesterov = [true, false]\n",
    "tied deciding axes": HEAD + "momentum = [0.0, 0.5, 0.9]\nnesterov = [false, true]\n"
    '[sweep]\nzip = [["model.width", "train.momentum"], '
    '["loss.kind", "data.noise"]]\n',
    "lists as values": HEAD + "lr_schedule = [[[0.0, 1.0]], [[0.0, 0.5], [1.0, 0.1]]]\n"
    'batch_size = ["full", 16]\n',
}


def plainly(values, ties):
    """Ids and settings of all combinations, in order, each once."""
    tied = {key for tie in ties for key in tie}
    groups = [
        [dict(zip(tie, row, strict=True)) for row in zip(*(values[k] for k in tie), strict=True)]
        for tie in ties
    ]
    groups += [[{key: v} for v in found] for key, found in values.items() if key not in tied]
    order = list(SETTINGS)
    groups.sort(key=lambda group: min(order.index(key) for key in group[0]))
    found = {}
    for combination in itertools.product(*groups):
        given = {key: value for part in combination for key, value in part.items()}
        settings = {}
        for key, setting in SETTINGS.items():
            if setting.applies(settings):
                settings[key] = given.get(key, setting.default_for(settings))
                assert settings[key] is not REQUIRED
        finish(settings)
        found.setdefault(job_id(settings), settings)
    return found


@pytest.mark.parametrize("name", GRIDS)
def test_the_same_jobs_as_the_plain_way(name):
    sweep = parse_sweep(GRIDS[name], name="grid", folder=Path())
    document = sweep.document
    values = {}
    for table in ("data", "model", "loss", "train"):
        for key, value in document[table].items():
            setting = SETTINGS["train.seed" if key == "seeds" else f"{table}.{key}"]
            if key == "seeds":
                values["train.seed"] = list(range(value))
                continue
            listed = isinstance(value, list) and key != "lr_schedule"
            listed = listed or (key == "lr_schedule" and isinstance(value[0][0], list))
            values[setting.key] = [setting.validate(v) for v in (value if listed else [value])]
    wanted = plainly(values, document.get("sweep", {}).get("zip", []))
    assert [job.id for job in sweep.jobs] == list(wanted)
    for job in sweep.jobs:
        assert dict(job.settings) == wanted[job.id]
        assert list(job.settings) == list(wanted[job.id])
        assert job_id(job.settings) == job.id
    assert pickle.loads(pickle.dumps(sweep.jobs[-1])) == sweep.jobs[-1]


def test_signs_of_formatting_in_a_text_are_text(tmp_path):
    (tmp_path / "a.csv").write_text("x,100%s\n1,0\n")
    text = '[data]\nkind="file"\npath="a.csv"\ntarget="100%s"\n[model]\nwidth=[1,2]\n'
    text += '[loss]\nkind="static"\n[train]\nepochs=1\n'
    for job in parse_sweep(text, name="grid", folder=tmp_path).jobs:
        assert job.id == job_id(job.settings)


def test_a_job_keeps_only_what_is_its_own():
    """Memory of a large grid: a few hundred bytes a job, not its thirty settings."""
    text = HEAD.replace("[3, 10, 30]", "{ range = [1, 501, 1] }")
    tracemalloc.start()
    try:
        sweep = parse_sweep(text, name="grid", folder=Path())
        assert len(sweep.jobs) == 500 * (2 * 2 * 5 + 1 * 2 * 5)
        assert tracemalloc.get_traced_memory()[0] / len(sweep.jobs) < 900
    finally:
        tracemalloc.stop()


def test_shards_share_all_jobs():
    jobs = list(range(100))
    for count in (1, 3, 16, 100, 130):
        shares = [Shard(index, count).of(jobs) for index in range(1, count + 1)]
        assert sorted(job for share in shares for job in share) == jobs
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert Shard.parse("3/16").of(jobs)[:2] == [2, 18]
