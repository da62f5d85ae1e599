"""Data sets: the spiral of the paper, digits, and the user's own files with all that is wrong."""

import contextlib

import numpy as np
import pandas as pd
import pytest

from tiltcli.data import load_dataset
from tiltcli.data.datasets import spiral
from tiltcli.records import UserError


def settings(path, **more):
    return {
        "data.kind": "file",
        "data.path": str(path),
        "data.standardize": False,
        "data.seed": 0,
    } | {f"data.{key}": value for key, value in more.items()}


def arrays(rng=None, n=30, inputs=4):
    rng = rng or np.random.default_rng(0)
    return {"X": rng.normal(size=(n, inputs)), "y": np.arange(n) % 3}


def test_spiral_is_the_authors():
    with np.load("tests/data/run_a.npz") as reference:
        part = spiral(0)
        np.testing.assert_allclose(part.X, reference["X"], atol=1e-15)
        np.testing.assert_array_equal(part.y, reference["y"])


def test_spiral_parts_are_fresh_draws():
    data = load_dataset(
        {
            "data.kind": "spiral",
            "data.seed": 5,
            "data.points_per_class": 20,
            "data.classes": 4,
            "data.revolutions": 3.0,
            "data.noise": 0.1,
            "data.standardize": False,
        }
    )
    np.testing.assert_array_equal(data.val.X, spiral(6, 20, 4, 3.0, 0.1).X)
    np.testing.assert_array_equal(data.test.X, spiral(7, 20, 4, 3.0, 0.1).X)
    assert np.bincount(data.train.y).tolist() == [20] * 4


def test_digits_split_and_scaled_by_training_alone():
    wanted = {"data.kind": "digits", "data.seed": 0, "data.standardize": True}
    data = load_dataset(wanted)
    assert [len(part) for part in (data.train, data.val, data.test)] == [1077, 360, 360]
    np.testing.assert_allclose(data.train.X.mean(axis=0), 0, atol=1e-12)
    assert set(np.round(data.train.X.std(axis=0), 9)) == {0.0, 1.0}
    assert abs(data.test.X.mean()) > 1e-6
    assert np.bincount(data.test.y).min() >= 34
    again = load_dataset(wanted)
    np.testing.assert_array_equal(data.test.X, again.test.X)


def test_npz_as_given_and_split(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, **arrays(), X_val=np.ones((6, 4)), y_val=[0, 1, 2, 0, 1, 2])
    data = load_dataset(settings(path), path)
    assert (len(data.train), len(data.val), data.test, data.classes) == (30, 6, None, 3)
    np.savez(path, **arrays())
    data = load_dataset(settings(path, split=[0.6, 0.2, 0.2]), path)
    assert [len(p) for p in (data.train, data.val, data.test)] == [18, 6, 6]
    data = load_dataset(settings(path, split=[0.8, 0.2, 0.0]), path)
    assert (len(data.train), len(data.val), data.test) == (24, 6, None)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables_with_text_labels(tmp_path, suffix):
    frame = pd.DataFrame(arrays()["X"], columns=list("abcd"))
    frame["kind"] = np.array(["ash", "oak", "elm"])[np.arange(30) % 3]
    path = tmp_path / f"t.{suffix}"
    if suffix == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    data = load_dataset(settings(path, target="kind"), path)
    assert data.labels == ("ash", "elm", "oak")
    assert data.train.y[:3].tolist() == [0, 2, 1]
    np.testing.assert_allclose(data.train.X, arrays()["X"])


def broken(**changes):
    made = arrays()
    made.update(changes)
    return {key: value for key, value in made.items() if value is not None}


NAN = arrays()["X"].copy()
NAN[4, 2] = np.nan


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (broken(y=None), "has no array y"),
        (broken(X=NAN), "row 5, column 3"),
        (broken(X=np.ones(5)), "allowed: (samples, inputs)"),
        (broken(X=np.ones((29, 4))), "29 samples and y 30"),
        (broken(y=np.zeros(30, int)), "at least two classes"),
        (broken(y=np.full(30, 0.5)), "class labels"),
        (broken(y=np.array([{}] * 30, dtype=object)), "Python objects are never read"),
        (broken(X_val=np.ones((3, 4))), "only one of X_val and y_val"),
        (broken(X_val=np.ones((3, 5)), y_val=np.zeros(3, int)), "differ in their number of inputs"),
        (broken(X_val=np.ones((1, 4)), y_val=np.array([7])), "labels that training lacks: 7"),
        (broken(X=np.array([["a"] * 4] * 30)), "allowed: numbers"),
    ],
)
def test_bad_npz(tmp_path, content, words):
    path = tmp_path / "x.npz"
    np.savez(path, **content)
    with pytest.raises(UserError, match=r"x\.npz") as caught:
        load_dataset(settings(path), path)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "target", "words"),
    [
        ("a,b\n1,x\n2,y\n", None, "needs data.target"),
        ("a,b\n1,x\n2,y\n", "bb", "did you mean b?"),
        ("a,b\nhello,x\n2,y\n", "b", "column a holds text where numbers belong"),
        ("a,b\n1,x\n2,\n", "b", "lacks a label in 1 rows (first: row 2)"),
        ("a,b\n1,x\n,y\n", "b", "NaN"),
        ("", "b", "not a readable table"),
    ],
)
def test_bad_tables(tmp_path, text, target, words):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_dataset(settings(path, target=target), path)
    assert words in str(caught.value)


def test_class_with_one_sample_cannot_be_split(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, X=np.ones((10, 2)), y=[0] * 9 + [1])
    with pytest.raises(UserError, match="class 1 has the fewest samples, 1"):
        load_dataset(settings(path, split=[0.6, 0.2, 0.2]), path)


def test_damaged_archives_are_user_errors(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, **arrays())
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 6)):
            data[rng.integers(len(data))] = rng.integers(256)
        path.write_bytes(bytes(data[: rng.integers(1, len(data) + 1)]))
        with contextlib.suppress(UserError):
            load_dataset(settings(path), path)
