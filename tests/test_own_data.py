"""Data of the user's own function: called with the seed and its arguments, and all its faults."""

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest

from helpers import tilt, write_grid
from tiltcli.data import dataset_of
from tiltcli.errors import UserError
from tiltcli.grid import parse_sweep

PAGE = Path("docs/your-own.md").read_text("utf-8")
MOONS = re.search(r"```py\n(# mydata.py\n.*?)```", PAGE, re.S)[1]
"""As the page has it, and its grid file with a network and a training."""
GRID = (
    re.search(r'```toml\n(\[data\]\nkind = "python"\n.*?)```', PAGE, re.S)[1]
    + """
[model]
width = 4
[loss]
kind = "static"
[train]
epochs = 3
dtype = "float64"
"""
)


def jobs(folder, code=MOONS, grid=GRID):
    (folder / "mydata.py").write_text(textwrap.dedent(code))
    return parse_sweep(grid, name="g", folder=folder).jobs


def test_seed_and_arguments_are_axes(tmp_path):
    from sklearn.datasets import make_moons

    found = jobs(tmp_path)
    assert len(found) == 4 == len({job.id for job in found})
    for job in found:
        seed, noise = job["data.seed"], job["data.args.noise"]
        data = dataset_of(job)
        X, y = make_moons(60, noise=noise, random_state=seed)
        np.testing.assert_array_equal(data.train.X, X)
        np.testing.assert_array_equal(data.train.y, 1 - y)  # by name: lower is class 0
        assert data.labels == ("lower", "upper") and data.val is None and len(data.test) == 1000
    again = jobs(tmp_path, MOONS.replace("seed + 1000", "seed + 999"))
    assert not {job.id for job in found} & {job.id for job in again}


def test_pictures_and_standardising(tmp_path):
    code = """
    import numpy as np

    def load(seed):
        X = np.random.default_rng(seed).integers(0, 255, (30, 1, 6, 6), dtype=np.uint8)
        return {"X": X, "y": np.arange(30) % 3, "X_val": X[:9], "y_val": np.arange(9) % 3}
    """
    grid = GRID.replace("[data.args]\nnoise = [0.1, 0.3]\n", "standardize = true\n")
    job = jobs(tmp_path, code, grid.replace("width = 4", 'kind = "myrtle5"\nwidth = 4'))[0]
    data = dataset_of(job)
    assert data.sample_shape == (1, 6, 6)
    assert abs(data.train.X.mean()) < 1e-12 and data.val.X[0, 0, 0, 0] == data.train.X[0, 0, 0, 0]


FAULTY = {
    "it raises": ("raise OSError('no disk')", [(":3: OSError: no disk (in load: raise OSError",)]),
    "no dict": (
        "return [1]",
        [(":2: load returned list; needed: a dict of arrays, X, y and opt",)],
    ),
    "an unknown name": (
        "return {'X': [[1], [2]], 'y': [0, 1], 'X_tst': [[1]]}",
        [
            (
                "load returned X_tst, which is unknown; known: X, y, X_val, y_val, X_test, "
                "y_test; did you mean X_test?",
            )
        ],
    ),
    "two faults": (
        "return {'X': [[1.0], [float('nan')]], 'y': [0, 1, 1], 'X_val': [[1]]}",
        [
            ("has only one of X_val and y_val",),
            ("X holds nan (first in row 2, column 1); allowed: finite numbers",),
            ("X has 2 samples and y 3",),
        ],
    ),
    "objects": (
        "return {'X': [[1], [2]], 'y': [None, 1]}",
        [("load returned as y an array of Python objects; allowed: numbers, and texts as labels",)],
    ),
    "ragged": (
        "return {'X': [[1], [2, 3]], 'y': [0, 1]}",
        [("load returned as X what is no arr",)],
    ),
    "one class": ("return {'X': [[1], [2]], 'y': [0, 0]}", [("all labels are 0; at least two",)]),
    "no labels": ("return {'X': [[1], [2]]}", [("has no array y; it has X",)]),
}


@pytest.mark.parametrize("name", FAULTY)
def test_faults_name_the_users_own_line(tmp_path, name):
    body, words = FAULTY[name]
    job = jobs(tmp_path, f"\ndef load(seed, noise):\n    {body}\n")[0]
    with pytest.raises(UserError) as caught:
        dataset_of(job)
    said = [str(fault) for fault in caught.value.faults]
    assert len(said) == len(words)
    for line, (word,) in zip(said, words, strict=True):
        assert line.startswith(f"{tmp_path / 'mydata.py'}:") and word in line


def test_wrong_arguments_are_named_before_anything_is_written(tmp_path):
    (tmp_path / "mydata.py").write_text(MOONS)
    write_grid(tmp_path, GRID.replace("noise = [", "nois = ["))
    refused = tilt("sweep", "grid.toml", "--dry-run", cwd=tmp_path)
    assert refused.returncode == 2
    said = "load takes no nois; it takes: seed, noise, samples; did you mean noise?"
    assert f"data.args.nois: {said}" in refused.stderr
    for given, words in (
        ('factory = "mydata.py:lod"', "mydata.py: has no function lod; it has:"),
        (
            'factory = "nowhere.py:load"',
            'data.factory: got "nowhere.py:load": nowhere.py: No such file',
        ),
        ("", "data.factory: missing; allowed"),
    ):
        with pytest.raises(UserError) as caught:
            grid = GRID.replace('factory = "mydata.py:load"', given)
            dataset_of(parse_sweep(grid, name="g", folder=tmp_path).jobs[0])
        assert words in str(caught.value)


def test_the_tool_trains_on_them(tmp_path):
    (tmp_path / "mydata.py").write_text(MOONS)
    write_grid(tmp_path, GRID)
    shown = tilt("sweep", "grid.toml", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    again = tilt("sweep", "grid.toml", "--dry-run", cwd=tmp_path)
    assert "4 already done" in again.stdout, again.stdout
