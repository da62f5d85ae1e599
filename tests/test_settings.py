"""Settings describe themselves once; what the tool does with them follows from that."""

import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tiltcli.engines.coverage import uncovered
from tiltcli.errors import UserError
from tiltcli.grid import SETTINGS, parse_sweep
from tiltcli.grid.setting_types import (
    ALL,
    ALWAYS,
    Setting,
    both,
    choice,
    either,
    given,
    real,
    unless,
    when,
    whole,
)
from tiltcli.grid.settings import (
    deciding,
    replicates,
    stepping,
    tilting,
)
from tiltcli.store.parquet import JOBS, fits, read_part

GRID = """
[data]
kind = "spiral"
[model]
width = 10
[loss]
kind = ["static", "dynamical"]
amplitude = 3
period = 50
[train]
epochs = 100
"""
LIMITED = [key for key, one in SETTINGS.items() if one.arrow in ("int64", "float64")]


def jobs(text=GRID, *overrides, folder="."):
    return parse_sweep(text, name="grid", folder=folder, overrides=overrides).jobs


def ids(*words):
    return [job.id for job in jobs(*words)]


@pytest.mark.parametrize("key", LIMITED)
def test_the_upper_bound_that_is_said_is_the_one_that_holds(key):
    setting = SETTINGS[key]
    said = re.search(r"(at most|below|to) ([0-9.e+]+)$", setting.allowed)
    assert said, setting.allowed
    bound = int(said[2]) if setting.whole else float(said[2])
    beyond = bound + 1 if setting.whole else 2 * bound
    if said[1] == "below":
        beyond, bound = bound, bound - 1e-9
    assert setting.validate(bound) == bound
    for value in (beyond, 10**400, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=re.escape(setting.allowed)):
            setting.validate(value)


def test_the_bound_is_in_the_message():
    for override in ("train.epochs=1000000000000000000", "train.seeds=1000000000000000000"):
        with pytest.raises(UserError) as caught:
            jobs(GRID, override)
        assert re.search(r"allowed: a .*at most [1-9][0-9]+", str(caught.value))
    with pytest.raises(UserError, match=r"train.lr: got inf; allowed: .* at most 1.79769e\+308"):
        jobs(GRID, "train.lr=inf")


def test_every_setting_says_what_it_is():
    for key, setting in SETTINGS.items():
        assert setting.key == key
        assert setting.meaning and setting.allowed
        assert str(setting.applies) not in ("", "never")
        assert set(setting.applies.keys) <= set(list(SETTINGS)[: list(SETTINGS).index(key)])


def test_queries():
    assert replicates() == ("data.seed", "train.seed")
    assert {"train.lr", "train.momentum", "train.optimizer"} <= {*stepping()}
    assert "train.seed" not in stepping()
    names = ("amplitude", "period", "rest", "settle", "shape")
    names += ("groups", "timing", "order", "half_life")
    assert tilting() == tuple(f"loss.{name}" for name in names)
    assert {"data.digest", "data.seed", "data.noise", "train.dtype"} <= {*deciding("data")}
    assert not {"data.path", "train.seed", "model.width", "loss.base"} & {*deciding("data")}
    assert {"model.kind", "model.width", "model.init_digest"} <= {*deciding("network")}
    assert {"train.batch_size", "data.classes"} <= {*deciding("cost")}
    assert not {"data.seed", "loss.amplitude", "train.lr"} & {*deciding("cost")}
    assert "train.batch_size" not in deciding("probe")


def test_conditions_hold_and_say_themselves():
    file = unless("data.kind", "file")
    one = either(file, given("data.split"))
    assert str(one) == 'data.kind is not "file", or data.split is given'
    assert one.keys == ("data.kind", "data.split")
    assert [one({"data.kind": kind}) for kind in ("file", "spiral")] == [False, True]
    assert one({"data.kind": "file", "data.split": [1, 0, 0]})
    all_of = both(when("a", "x", "y"), file)
    assert all_of({"a": "x"}) and not all_of({"a": "x", "data.kind": "file"})
    assert not all_of({})
    assert (str(both()), both()({}), str(either()), either()({})) == (
        "always",
        True,
        "never",
        False,
    )


def test_the_kernel_refuses_a_setting_that_it_knows_nothing_of(monkeypatch):
    assert {uncovered(job) for job in jobs()} == {None}
    unknown = choice("model.twist", "unheard of", "none", "left")
    monkeypatch.setitem(SETTINGS, "model.twist", unknown)
    assert {uncovered(job) for job in jobs()} == {'model.twist = "none"'}
    some = Setting(**{**vars(unknown), "fused": ("none",)})
    monkeypatch.setitem(SETTINGS, "model.twist", some)
    assert {uncovered(job) for job in jobs()} == {None}
    assert {uncovered(job) for job in jobs(GRID, "model.twist=left")} == {'model.twist = "left"'}


def test_what_the_kernel_does_not_train():
    assert {uncovered(job) for job in jobs(GRID, "model.kind=myrtle5")} == {
        'model.kind = "myrtle5"'
    }
    overrides = ("train.batch_size=8", "train.optimizer=adam", "loss.base=mse")
    assert {uncovered(job) for job in jobs(GRID, *overrides)} == {None}


def test_a_later_setting_changes_no_identity_by_its_default(monkeypatch):
    before = ids()
    later = whole("model.floors", meaning="new", default=1, since_stored=True, fused=ALL)
    monkeypatch.setitem(SETTINGS, "model.floors", later)
    assert ids() == before
    assert ids(GRID, "model.floors=1") == before
    other = ids(GRID, "model.floors=2")
    assert not {*before} & {*other}
    for axis in ("[1, 2]", "[2, 1]"):
        assert {*ids(GRID, f"model.floors={axis}")} == {*before, *other}


def test_older_files_lack_later_settings(monkeypatch, tmp_path):
    path = tmp_path / "0-0.parquet"
    table = pa.table({"job": ["a", "b"], "loss.kind": ["static", "dynamical"]})
    pq.write_table(table, path)
    for key, applies in (("model.new", ALWAYS), ("loss.new", when("loss.kind", "dynamical"))):
        later = real(key, meaning="new", default=0.5, since_stored=True, applies=applies)
        monkeypatch.setitem(SETTINGS, key, later)
    fields = [("job", "string"), ("model.new", "float64"), ("loss.new", "float64")]
    found = read_part(path, pa.schema([pa.field(*one) for one in fields]))
    assert found.to_pydict() == {
        "job": ["a", "b"],
        "model.new": [0.5, 0.5],
        "loss.new": [None, 0.5],
    }
    assert not fits(path, JOBS)
    pq.write_table(JOBS.empty_table(), path)
    assert fits(path, JOBS)


def test_columns():
    cases = {
        "train.batch_size": [("full", None), (16, 16)],
        "train.lr_schedule": [(None, None), ([[0.0, 1.0], [1.0, 0.1]], "[[0.0, 1.0], [1.0, 0.1]]")],
        "loss.period": [(None, None), (50, 50)],
        "loss.shape": [("sine", "sine")],
    }
    for key, pairs in cases.items():
        for value, column in pairs:
            assert SETTINGS[key].to_column(value) == column
