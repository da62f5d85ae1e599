"""Data sets: the spiral of the paper, digits, and the user's own files with all that is wrong."""

import contextlib

import numpy as np
import pytest

from tiltcli.data import load_dataset
from tiltcli.data.loading import spiral
from tiltcli.errors import UserError


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
    data = load_dataset(settings(path))
    assert (len(data.train), len(data.val), data.test, data.classes) == (30, 6, None, 3)
    np.savez(path, **arrays())
    data = load_dataset(settings(path, split=[0.6, 0.2, 0.2]))
    assert [len(p) for p in (data.train, data.val, data.test)] == [18, 6, 6]
    data = load_dataset(settings(path, split=[0.8, 0.2, 0.0]))
    assert (len(data.train), len(data.val), data.test) == (24, 6, None)


def test_further_npz_files(tmp_path):
    path, other = tmp_path / "x.npz", tmp_path / "test.npz"
    np.savez(path, **arrays(), X_val=np.ones((6, 4)), y_val=[0, 1, 2, 0, 1, 2])
    np.savez(other, X=np.full((3, 4), 7.0), y=[2, 1, 0])
    data = load_dataset(settings(path, test_path=str(other)))
    assert [len(part) for part in data.parts.values()] == [30, 6, 3]
    assert (data.test.X == 7).all() and data.test.y.tolist() == [2, 1, 0]
    with pytest.raises(UserError, match=r"test\.npz: val is there twice"):
        load_dataset(settings(path, val_path=str(other)))
    np.savez(other, X=np.ones((3, 5)), y=[2, 1, 0])
    with pytest.raises(UserError, match=r"shape \(5,\); that to train on has \(4,\)"):
        load_dataset(settings(path, test_path=str(other)))


def test_pictures_from_an_npz(tmp_path):
    """For networks of pictures scaled by channel; for others flat, scaled by input."""
    path = tmp_path / "x.npz"
    pictures = np.random.default_rng(0).integers(0, 256, size=(30, 3, 4, 5), dtype=np.uint8)
    pictures[:, 2] = 7
    np.savez(path, X=pictures, y=np.arange(30) % 3, X_test=pictures[:6], y_test=np.arange(6) % 3)
    wanted = settings(path, standardize=True) | {"train.dtype": "float32"}
    seen = load_dataset(wanted | {"model.kind": "myrtle5"})
    assert seen.sample_shape == (3, 4, 5)
    assert seen.train.X.dtype == seen.test.X.dtype == np.float32
    x = pictures.astype(float)
    mean, std = x.mean(axis=(0, 2, 3)), x.std(axis=(0, 2, 3))
    np.testing.assert_allclose(seen.test.X[:, 0], (x[:6, 0] - mean[0]) / std[0], rtol=1e-6)
    assert not seen.train.X[:, 2].any()  # a channel that never varies
    flat = load_dataset(wanted | {"model.kind": "mlp"})
    assert flat.sample_shape == (60,)
    rows = x.reshape(30, -1)
    np.testing.assert_allclose(
        flat.train.X[:, :40],
        (rows - rows.mean(0))[:, :40] / rows.std(0)[:40],
        rtol=1e-5,
        atol=1e-6,
    )
    raw = load_dataset(settings(path) | {"model.kind": "mlp"})
    np.testing.assert_array_equal(raw.train.X, rows)


def test_big_arrays_are_scaled_in_pieces(monkeypatch, tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, **arrays(n=300))
    whole = load_dataset(settings(path, standardize=True))
    monkeypatch.setattr("tiltcli.data.preparation.PIECE_BYTES", 1000)
    pieces = load_dataset(settings(path, standardize=True))
    np.testing.assert_allclose(pieces.train.X, whole.train.X, rtol=1e-12, atol=1e-13)


def test_digits_are_pictures():
    wanted = {"data.kind": "digits", "data.seed": 3, "data.standardize": False}
    seen = load_dataset(wanted | {"model.kind": "myrtle5", "train.dtype": "float32"})
    flat = load_dataset(wanted)
    assert seen.train.X.shape == (1077, 1, 8, 8)
    np.testing.assert_array_equal(seen.test.X.reshape(360, 64), flat.test.X)
    np.testing.assert_array_equal(seen.test.y, flat.test.y)


def test_values_too_large_for_the_dtype(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, X=np.full((4, 2), 1e300), y=[0, 1, 0, 1])
    assert load_dataset(settings(path)).train.X.max() == 1e300
    with pytest.raises(UserError, match=r"1e\+300, too large for train.dtype"):
        load_dataset(settings(path) | {"train.dtype": "float32"})


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
        (broken(X_val=np.ones((3, 5)), y_val=np.zeros(3, int)), "differ in the shape of a sample"),
        (broken(X_val=np.ones((1, 4)), y_val=np.array([7])), "labels that training lacks: 7"),
        (broken(X=np.array([["a"] * 4] * 30)), "allowed: numbers"),
    ],
)
def test_bad_npz(tmp_path, content, words):
    path = tmp_path / "x.npz"
    np.savez(path, **content)
    with pytest.raises(UserError, match=r"x\.npz") as caught:
        load_dataset(settings(path))
    assert words in str(caught.value)


def test_class_with_one_sample_cannot_be_split(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, X=np.ones((10, 2)), y=[0] * 9 + [1])
    with pytest.raises(UserError, match="class 1 has only 1 sample"):
        load_dataset(settings(path, split=[0.6, 0.2, 0.2]))


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
            load_dataset(settings(path))
