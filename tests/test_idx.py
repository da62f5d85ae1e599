"""Pictures in MNIST's IDX format: read from the definition, and with all that goes wrong."""

import gzip
import struct
import tracemalloc
from collections import Counter

import numpy as np
import pytest

from helpers import tilt, write_grid
from mnist import PIXELS, contents, write
from tiltcli.data import downloads_of, load_dataset, pictures
from tiltcli.errors import UserError
from tiltcli.grid import load_sweep, parse_sweep
from tiltcli.grid.paths import IDX_FILES, idx_digest

TRAIN, TRAIN_Y, TEST, TEST_Y = IDX_FILES


def settings(folder, **more):
    given = {"kind": "idx", "path": str(folder), "seed": 0, "standardize": False} | more
    return {f"data.{key}": value for key, value in given.items()} | {"model.kind": "myrtle5"}


@pytest.mark.parametrize("packed", [True, False])
def test_every_byte_has_its_place(tmp_path, packed):
    data = load_dataset(settings(write(tmp_path / "p", contents(), packed)))
    assert [len(part) for part in data.parts.values()] == [90, 10, 20]
    assert data.sample_shape == (1, 5, 4) and data.labels == ("0", "1", "2", "3")
    np.testing.assert_array_equal(data.test.X[:, 0], PIXELS[100:])
    np.testing.assert_array_equal(data.test.y, np.arange(100, 120) % 4)
    # Training and validation together are the hundred, each with its label.
    places = {picture.tobytes(): i for i, picture in enumerate(PIXELS[:100].astype(float))}
    found = []
    for part in (data.train, data.val):
        rows = [places[picture.tobytes()] for picture in part.X]
        assert (np.array(rows) % 4).tolist() == part.y.tolist() and rows == sorted(rows)
        found += rows
    assert sorted(found) == list(range(100))
    assert np.ptp(np.bincount(data.val.y)) <= 1
    flat = load_dataset(settings(tmp_path / "p") | {"model.kind": "mlp"})
    assert flat.sample_shape == (20,)


def test_limit_draws_from_the_training_part_alone(tmp_path):
    folder = write(tmp_path / "p", contents())
    whole = load_dataset(settings(folder))
    for seed in (0, 1):
        few = load_dataset(settings(folder, limit=40, seed=seed))
        assert np.bincount(few.train.y).tolist() == [10] * 4
        if seed == 0:
            np.testing.assert_array_equal(few.val.X, whole.val.X)
            known = {picture.tobytes() for picture in whole.train.X}
            drawn = {picture.tobytes() for picture in few.train.X}
            assert len(drawn) == 40 and drawn < known
        else:
            assert drawn != {picture.tobytes() for picture in few.train.X}
    for limit in (3, 87, 1000):
        with pytest.raises(UserError, match=r"data\.limit: got \d+; allowed: from 4 to 86, "):
            load_dataset(settings(folder, limit=limit))


def changed(**changes):
    made = contents()
    for name, change in changes.items():
        key = {"X": TRAIN, "y": TRAIN_Y, "X_test": TEST, "y_test": TEST_Y}[name]
        made[key] = change(made[key])
    return made


def header(*numbers):
    return lambda old: struct.pack(f">{len(numbers)}I", *numbers) + old[4 * len(numbers) :]


SWAPPED = contents()
SWAPPED[TRAIN], SWAPPED[TRAIN_Y] = SWAPPED[TRAIN_Y], SWAPPED[TRAIN]
BAD = {
    "truncated": (
        changed(X=lambda old: old[:-7]),
        [f"{TRAIN}.gz: truncated: 1,993 bytes follow its header, which says 2,000 (100 × 5 × 4"],
    ),
    "cut in the header": (changed(y=lambda old: old[:6]), ["truncated in its header"]),
    "empty": (changed(y_test=lambda old: b""), ["magic number None; needed: 2049, of labels"]),
    "a wrong magic": (
        changed(X_test=header(2052)),
        [f"{TEST}.gz: begins with the magic number 2052; needed: 2051, of pictures"],
    ),
    "swapped files": (
        SWAPPED,
        [
            f"{TRAIN}.gz: begins with the magic number 2049, which is that of labels; swapped",
            f"{TRAIN_Y}.gz: begins with the magic number 2051, which is that of pictures; swapped",
        ],
    ),
    "wrong counts": (
        changed(y=lambda old: struct.pack(">2I", 2049, 99) + old[8:-1]),
        [f"100 pictures in {TRAIN}.gz and 99 labels beside them"],
    ),
    "more than the header says": (
        changed(X=header(2051, 99)),
        [f"{TRAIN}.gz: goes on after the 1,980 bytes that its header says (99 × 5 × 4 pictures)"],
    ),
    "no pictures": (changed(X=header(2051, 0)), ["0 × 5 × 4 pictures; allowed: at least one"]),
    "other sizes to judge": (
        changed(X_test=header(2051, 20, 4, 5)),
        ["pictures of (5, 4) to train on and of (4, 5) to judge"],
    ),
    "too large for memory": (changed(X=header(2051, 2**31, 2**10, 2**10)), ["GiB; allowed: half"]),
    "a class that training lacks": (
        changed(y_test=lambda old: old[:-1] + b"\7"),
        [f"{TEST_Y} has labels that training lacks: 7"],
    ),
    "one class": (
        changed(y=lambda old: old[:8] + bytes(100), y_test=lambda old: old[:8] + bytes(20)),
        ["all labels are 0; at least two classes"],
    ),
    "two files at once": (
        changed(X=lambda old: old[:-1], y_test=header(1)),
        [f"{TRAIN}.gz: truncated", f"{TEST_Y}.gz: begins with the magic number 1"],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_damaged_files(tmp_path, name):
    made, words = BAD[name]
    folder = write(tmp_path / "p", made)
    with pytest.raises(UserError) as caught:
        load_dataset(settings(folder))
    said = [str(fault) for fault in caught.value.faults]
    assert len(said) == len(words), said
    for line, word in zip(said, words, strict=True):
        assert line.startswith(str(folder)) and word in line


@pytest.mark.parametrize("change", [lambda old: old[:40], lambda old: b"?" + old[1:], bytes])
def test_damaged_gzip(tmp_path, change):
    folder = write(tmp_path / "p", contents())
    file = folder / f"{TRAIN}.gz"
    file.write_bytes(change(file.read_bytes()[:-8] + bytes(8)))
    with pytest.raises(UserError, match=r"images-idx3-ubyte\.gz: (truncated|cannot be read)"):
        load_dataset(settings(folder))


def test_no_more_is_unpacked_than_the_header_says(tmp_path):
    """A gigabyte of zeros in a megabyte of gzip, behind the header of a small file."""
    folder = write(tmp_path / "p", contents())
    with gzip.open(folder / f"{TRAIN}.gz", "wb", compresslevel=1) as file:
        file.write(contents()[TRAIN])
        for _ in range(64):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(UserError, match="goes on after the 2,000 bytes"):
        load_dataset(settings(folder))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


GRID = """
[data]
kind = "idx"
path = "p"
[model]
kind = "myrtle5"
width = 2
[loss]
kind = "static"
[train]
epochs = 1
lr = 0.01
batch_size = 30
seeds = 1
"""


def test_the_tool_trains_on_them(tmp_path):
    write(tmp_path / "p", contents())
    write_grid(tmp_path, GRID.replace('"p"', '"p"\nlimit = 50'))
    shown = tilt("sweep", "grid.toml", "--workers", "0", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("p", 'data.path: got "p": No such file'),
        (f"p/{TEST_Y}.gz", f'data.path: got "p": lacks {TEST_Y} (plain or with .gz)'),
    ],
)
def test_missing_files(tmp_path, missing, words):
    write(tmp_path / "p", contents())
    (tmp_path / missing).rename(tmp_path / "away")
    with pytest.raises(UserError) as caught:
        parse_sweep(GRID, name="g", folder=tmp_path)
    assert words in str(caught.value)


def test_jobs_are_told_by_the_content(tmp_path):
    here = write(tmp_path / "p", contents())
    there = write(tmp_path / "q", contents())
    assert idx_digest(here) == idx_digest(there)
    write(there, changed(y_test=lambda old: old[:-1] + b"\0"))
    assert idx_digest(here) != idx_digest(there)
    jobs = [
        parse_sweep(GRID.replace('"p"', f'"{name}"'), name="g", folder=tmp_path).jobs[0]
        for name in "pq"
    ]
    assert jobs[0].id != jobs[1].id and jobs[0]["data.digest"] == idx_digest(here)


def fashion(tmp_path, path=""):
    grid = GRID.replace('"idx"\npath = "p"', f'"fashion_mnist"\n{path}')
    return parse_sweep(grid, name="g", folder=tmp_path).jobs[0]


def test_fashion_mnist_is_the_published_one(tmp_path, monkeypatch):
    folder = write(tmp_path / "p", contents())
    with pytest.raises(UserError) as caught:
        load_dataset(settings(folder, kind="fashion_mnist"))
    assert len(caught.value.faults) == 4
    assert 'Other pictures in this format: [data] kind = "idx"' in str(caught.value)
    monkeypatch.setattr(pictures, "DEBIAN", tmp_path / "nowhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    job = fashion(tmp_path)
    assert [one.filename for one in downloads_of(job)] == [f"{name}.gz" for name in IDX_FILES]
    assert sum(one.size for one in downloads_of(job)) == 30_878_645
    # Wherever it lies, its jobs are the same.
    assert downloads_of(fashion(tmp_path, 'path = "p"')) == ()
    assert fashion(tmp_path, 'path = "p"').id == job.id
    monkeypatch.setattr(pictures, "DEBIAN", folder)
    assert downloads_of(job) == ()
    monkeypatch.setattr(pictures, "DEBIAN", tmp_path / "nowhere")
    asked = []
    monkeypatch.setattr(pictures, "fetched", lambda one, cache: asked.append(one) or folder / "x")
    with pytest.raises(UserError, match="not those of Fashion-MNIST"):
        load_dataset(settings(folder, kind="fashion_mnist", path=None))
    assert tuple(asked) == pictures.FASHION_MNIST


def test_fashion_mnist_as_debian_has_it():
    if pictures.debian_folder() is None:
        pytest.skip("needs Debian's package dataset-fashion-mnist")
    data = load_dataset(
        {"data.kind": "fashion_mnist", "data.seed": 0, "data.standardize": True, "data.limit": 500}
        | {"model.kind": "myrtle5", "train.dtype": "float32"}
    )
    assert data.labels[0] == "T-shirt/top" and data.labels[9] == "Ankle boot"
    assert np.bincount(data.train.y).tolist() == [50] * 10
    assert np.bincount(data.val.y).tolist() == [600] * 10
    assert np.bincount(data.test.y).tolist() == [1000] * 10
    assert data.sample_shape == (1, 28, 28)
    # The first pictures that judge: an ankle boot, a pullover, two trousers.
    assert data.test.y[:4].tolist() == [9, 2, 1, 1]


def test_every_method_of_the_shipped_sweep_has_as_many_cells():
    jobs = load_sweep("sweeps/fashion-myrtle5-phase.toml").jobs
    methods = Counter(
        (job["model.width"], job["loss.kind"], job.get("loss.groups")) for job in jobs
    )
    assert len(methods) == 8 and set(methods.values()) == {12 * 4}
    assert {job["data.seed"] == job["train.seed"] for job in jobs} == {True}
