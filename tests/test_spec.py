"""Grid files: expansion, identity, and every fault at once."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiltcli.errors import UserError
from tiltcli.grid import job_id, parse_sweep
from tiltcli.grid.syntax import key_lines

BASE = """
[data]
kind = "spiral"
[model]
width = [10, 30]
[loss]
kind = ["static", "dynamical"]
amplitude = [3, 10]
period = [50, 300]
[train]
epochs = 100
seeds = 2
"""


def sweep(text, *overrides, folder=Path()):
    return parse_sweep(text, name="grid", folder=folder, source="grid.toml", overrides=overrides)


def faults(text, *overrides):
    with pytest.raises(UserError) as caught:
        sweep(text, *overrides)
    return caught.value.faults


def test_product_with_static_jobs_once():
    grid = sweep(BASE)
    static = [job for job in grid.jobs if job["loss.kind"] == "static"]
    assert (len(grid.jobs), grid.expanded, len(static)) == (20, 32, 4)
    assert grid.duplicates == 12
    assert all(job.get("loss.amplitude") is None for job in static)
    assert len({job.id for job in grid.jobs}) == 20
    assert grid.axes["train.seed"] == (0, 1)


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ("[1, 2, 2.0]", [1.0, 2.0]),
        ("{ range = [1, 4, 1] }", [1.0, 2.0, 3.0]),
        ("{ range = [1, 1.3, 0.1] }", [1.0, 1.1, 1.2]),
        ("{ range = [9, 3, -3] }", [9.0, 6.0]),
        ("{ linspace = [1, 2, 5] }", [1.0, 1.25, 1.5, 1.75, 2.0]),
        ("{ logspace = [1, 100, 3] }", [1.0, 10.0, 100.0]),
    ],
)
def test_axes(axis, values):
    grid = sweep(
        BASE.replace("[3, 10]", axis),
        "loss.kind=dynamical",
        "loss.period=50",
        "model.width=10",
        "train.seeds=1",
    )
    assert [job["loss.amplitude"] for job in grid.jobs] == values


def test_whole_number_axis_is_rounded():
    grid = sweep(BASE, "model.width={logspace = [10, 1000, 4]}", "loss.kind=static")
    assert grid.axes["model.width"] == (10, 46, 215, 1000)


def test_zip_ties_axes():
    text = BASE + '[sweep]\nzip = [["model.width", "train.lr"]]\n'
    grid = sweep(text.replace("epochs = 100", "epochs = 100\nlr = [1.0, 0.5]"))
    assert {(job["model.width"], job["train.lr"]) for job in grid.jobs} == {(10, 1.0), (30, 0.5)}


def test_also_adds_a_grid_and_merges_equal_work():
    text = BASE + '[[also]]\n[also.model]\nwidth = [30, 100]\n[also.loss]\nkind = "static"\n'
    grid = sweep(text)
    assert len(grid.jobs) == 22
    assert {job["loss.kind"] for job in grid.jobs if job["model.width"] == 100} == {"static"}


def test_ids_depend_on_the_settings_alone():
    first = sweep(BASE)
    reordered = """
name = "other"
[train]
seeds = [1, 0]
epochs = 100.0
[loss]
period = [300.0, 50]
amplitude = [10.0, 3.0]
kind = ["dynamical", "static"]
[model]
width = [30, 10]
[data]
noise = 0.2
kind = "spiral"
"""
    assert {j.id for j in first.jobs} == {j.id for j in sweep(reordered).jobs}
    # Written down so that a change of identity, which orphans all results, cannot slip in.
    assert job_id({"a": 1, "b": None, "c": "x"}) == "6bf6a03ef45732df"


def test_seeds_forms_and_overrides():
    for text in ("3", "[0, 1, 2]", "{range = [0, 3, 1]}"):
        assert len(sweep(BASE, f"train.seeds={text}").jobs) == 30
    grid = sweep(BASE, "train.seed=7", "name=renamed", "data.kind=digits")
    assert grid.name == "renamed"
    assert {job["train.seed"] for job in grid.jobs} == {7}
    assert {job["data.standardize"] for job in grid.jobs} == {True}
    assert grid.document["train"]["seeds"] == [7]


def test_settings_without_effect_are_named():
    assert sweep(BASE, "loss.kind=static").unused == ("loss.amplitude", "loss.period")


@pytest.mark.parametrize(
    ("overrides", "refused"),
    [
        (("train.optimizer=adam", "train.momentum=0.9"), 'train.momentum: got 0.9; .*"sgd"'),
        (("train.nesterov=true",), "train.nesterov: got true; .*momentum > 0"),
        (("train.optimizer=adam", "train.momentum=0"), None),
        (('train.optimizer=["sgd", "adam"]', "train.momentum=[0, 0.9]"), None),
        (("train.momentum=[0, 0.9]", "train.nesterov=true"), None),
        # Whether it applies is not known where the optimiser is none.
        (
            ("train.optimizer=adm", "train.momentum=0.9"),
            r'^--set: train.optimizer: got "adm"[^\n]*$',
        ),
    ],
)
def test_settings_of_updates_that_no_job_makes_are_refused(overrides, refused):
    if refused is None:
        assert sweep(BASE, *overrides).jobs
    else:
        with pytest.raises(UserError, match=refused):
            sweep(BASE, *overrides)


def test_every_fault_at_once_with_line_and_nearest_name():
    found = faults(
        """nme = "x"
[data]
kind = "spirl"
[model]
widht = 3
[loss]
kind = "dynamical"
amplitude = 0.5
period = [10, "x"]
[train]
epochs = -1
lr = nan
seeds = 0
[[also]]
[also.loss]
shap = "sine"
[sweep]
zip = [["train.lr", "model.wdth"]]
""",
        "train.epocs=3",
        "novalue",
    )
    text = "\n".join(map(str, found))
    for expected in (
        "--set: train.epocs: unknown; did you mean train.epochs?",
        "--set: got 'novalue'; allowed: key=value",
        "grid.toml:1: nme: unknown; did you mean name?",
        'grid.toml:3: data.kind: got "spirl"',
        'did you mean "spiral"?',
        "grid.toml:5: model.widht: unknown; did you mean model.width?",
        "grid.toml:8: loss.amplitude: got 0.5; allowed: a number ≥ 1",
        'grid.toml:9: loss.period: got "x"',
        "grid.toml:11: train.epochs: got -1",
        "grid.toml:12: train.lr: got nan",
        "grid.toml:13: train.seeds: got 0",
        "grid.toml:16: also[0].loss.shap: unknown; did you mean loss.shape?",
        "grid.toml:18: sweep.zip: names model.wdth, which is unknown; did you mean model.width?",
        "grid.toml:4: model.width: missing",
    ):
        assert expected in text, expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[data", "not valid TOML"),
        ("data = 3", "must be a table"),
        (BASE + "[sweep]\nzip = 3", "must be lists of keys"),
        (BASE + "also = 3", "unknown"),
        ('name = "../x"\n' + BASE, "allowed: letters"),
        (BASE.replace('"spiral"', '"file"'), "data.path: missing"),
        (BASE.replace('"spiral"', '"file"\npath = "no.npz"'), "No such file"),
        (BASE.replace("[3, 10]", "[]"), "empty axis"),
        (BASE.replace("[3, 10]", "{ range = [0, 1, 0] }"), "step 0"),
        (BASE.replace("[3, 10]", "{ rnge = [0, 1, 1] }"), "did you mean range?"),
        (BASE.replace("[3, 10]", "{ logspace = [0, 1, 3] }"), "above 0"),
        (BASE.replace("[3, 10]", "true"), "got true"),
        (BASE.replace("seeds = 2", "seeds = 1000000\nlr = {linspace = [1, 2, 100]}"), "at most"),
        (BASE.replace("[50, 300]", "2.5"), "got 2.5; allowed: a whole number"),
    ],
)
def test_faults(text, words):
    assert words in "\n".join(map(str, faults(text)))


def test_zip_of_different_lengths():
    text = BASE + '[sweep]\nzip = [["model.width", "train.seeds"]]\n'
    assert "different lengths" in str(faults(text, "train.seeds=3")[0])


def test_key_lines_follow_strings_and_arrays():
    lines = key_lines(
        'a = """\nb = 1\n"""\nc = [\n1, # [\n2]\n[t]\n"d" = 1\n[[also]]\n[also.x]\ne=1'
    )
    assert lines == {
        "a": 1,
        "c": 4,
        "t": 7,
        "t.d": 8,
        "also[0]": 9,
        "also[0].x": 10,
        "also[0].x.e": 11,
    }


@given(st.text(max_size=300))
def test_no_text_gets_past_as_anything_but_a_user_error(text):
    with contextlib.suppress(UserError):
        sweep(text)


@given(st.lists(st.sampled_from(BASE.split()), max_size=30), st.randoms(use_true_random=False))
def test_mutated_grids_only_raise_user_errors(words, random):
    lines = BASE.splitlines()
    for word in words:
        line = random.randrange(len(lines))
        lines[line] = lines[line].replace(random.choice(lines[line].split() or [""]), word, 1)
    with contextlib.suppress(UserError):
        sweep("\n".join(lines))
