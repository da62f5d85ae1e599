"""The user's own tables: labels of every kind, and every fault with its column and row."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tiltcli.data import load_dataset
from tiltcli.data.array_files import read_file
from tiltcli.errors import UserError


def settings(path, **more):
    return {
        "data.kind": "file",
        "data.path": str(path),
        "data.standardize": False,
        "data.seed": 0,
        "data.target": "kind",
    } | {f"data.{key}": value for key, value in more.items()}


def trees(n=30):
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(n, 4)), columns=list("abcd"))
    frame["kind"] = np.array(["ash", "oak", "elm"])[np.arange(n) % 3]
    return frame


def save(frame, path):
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_text_labels(tmp_path, suffix):
    frame = trees()
    path = save(frame, tmp_path / f"t{suffix}")
    data = load_dataset(settings(path), path)
    assert data.labels == ("ash", "elm", "oak")
    assert data.train.y[:3].tolist() == [0, 2, 1]
    np.testing.assert_array_equal(data.train.X, frame[list("abcd")].to_numpy())


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([10, 9, 2], ("2", "9", "10")),
        ([0, 1, 3], ("0", "1", "2", "3")),
        (["10", "9", "x"], ("10", "9", "x")),
        ([1.0, 2.0, 3.0], ("1", "2", "3")),
        ([True, False, True], ("False", "True")),
        (["é", " ä ", "日本"], ("ä", "é", "日本")),
        ([2**62, 2**62 + 1, 5], ("4611686018427387904", "4611686018427387905", "5")),
    ],
)
def test_kinds_of_labels(tmp_path, suffix, labels, names):
    frame = trees()
    frame["kind"] = np.array(labels)[np.arange(30) % 3]
    path = save(frame, tmp_path / f"t{suffix}")
    parts, found = read_file(path, "kind")
    assert found == names
    # Every row has the class of its label, whatever form the label was read in.
    wanted = pd.factorize(frame["kind"], sort=False)[0]
    numbers = pd.factorize(parts["train"][1], sort=False)[0]
    np.testing.assert_array_equal(numbers, wanted)


def test_numbers_of_every_kind(tmp_path):
    frame = trees()
    frame["a"] = np.arange(30, dtype=np.uint8)
    frame["b"] = frame["b"] > 0
    frame["c"] = pd.array(np.arange(30), dtype="Int64")
    path = save(frame, tmp_path / "t.parquet")
    X = read_file(path, "kind")[0]["train"][0]
    assert X.dtype == np.float64 and X[7, 0] == 7 == X[7, 2]
    csv = tmp_path / "t.csv"
    huge = 123456789012345678901234567890
    csv.write_text(f"a,kind\n{huge},x\n-1e-3,y\n")
    assert read_file(csv, "kind")[0]["train"][0].tolist() == [[float(huge)], [-0.001]]
    csv.write_bytes(b"\xef\xbb\xbfa,kind\r\n1,x\r\n2,y\r\n")  # as spreadsheets save it
    assert read_file(csv, "kind")[0]["train"][0].tolist() == [[1], [2]]


EMPTY = "no number (empty or NaN)"
BAD = {
    "a wrong target": (
        "a,knd\n1,x\n2,y\n",
        ["has no column kind; it has: a, knd; did you mean knd?"],
    ),
    "text for a number": (
        "a,b,kind\nhello,1,x\n2,1,y\n3,?,x\n",
        ["column a: text where numbers belong in row 1: 'hello'", "column b: text where", "'?'"],
    ),
    "all faults at once": (
        "a,b,kind\n1,,x\n2,inf,y\nthree,1,\n,-inf,x\n",
        [
            "column a: text where numbers belong in row 3: 'three'",
            f"column a: {EMPTY} in row 4",
            f"column b: {EMPTY} in row 1",
            "column b: infinity in 2 rows (2, 4)",
            "column kind: no label (empty, NA, NaN, None or null) in row 3",
        ],
    ),
    "missing labels": ("a,kind\n1,x\n2,\n3,NA\n", ["column kind: no label", "2 rows (2, 3)"]),
    "NaN": ("a,kind\n1,x\nnan,y\n", [f"column a: {EMPTY} in row 2"]),
    "one class": ("a,kind\n1,x\n2,x\n", ["all labels are x; at least two classes"]),
    "measurements": ("a,kind\n1,0.5\n2,2.25\n", ["column kind: a fraction in row 1, 0.5"]),
    "empty": ("", ["empty; needed: a header"]),
    "a header alone": ("a,kind\n", ["has no rows below its header"]),
    "two columns of one name": ("a,a,kind\n1,2,x\n3,4,y\n", ["two columns of one name: a"]),
    "labels alone": ("kind\nx\ny\n", ["no column besides kind"]),
    "semicolons": ("a;b;kind\n1;2;x\n", ["it has: a;b;kind", "not separated by commas"]),
    "a long row": ("a,kind\n1,x\n2,y,9\n", ["not a readable table", "line 3"]),
    "longer rows": ("a,kind\n1,x,7\n2,y,9\n", ["not a readable table"]),
    "a short row": ("a,b,kind\n1,2,x\n3\n", [f"column b: {EMPTY} in row 2", "kind: no label"]),
    "an open quote": ('a,kind\n1,"x\n2,y\n', ["not a readable table"]),
    "zero bytes": ("a,kind\n1\0,x\n2,y\n", ["column a"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_csv(tmp_path, name):
    text, words = BAD[name]
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_file(path, "kind")
    said = [str(fault) for fault in caught.value.faults]
    assert all(str(path) in line for line in said)
    for word in words:
        assert any(word in line for line in said), said
    if name == "all faults at once":
        assert len(said) == len(words)


def test_a_table_needs_a_target(tmp_path):
    path = save(trees(), tmp_path / "t.csv")
    with pytest.raises(UserError, match=r"needs data\.target"):
        read_file(path, None)


def test_many_faults_are_cut(tmp_path):
    path = tmp_path / "t.csv"
    names = [f"c{i}" for i in range(50)]
    path.write_text(",".join([*names, "kind"]) + "\n" + ",".join(["?"] * 50 + ["x"]) + "\n")
    with pytest.raises(UserError) as caught:
        read_file(path, "kind")
    assert len(caught.value.faults) == 21
    assert "and 30 more faults" in str(caught.value.faults[-1])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,kind\n1,caf\xe9\n2,y\n".encode("latin-1"), "not UTF-8 text (byte 0xe9)"),
        ("a,kind\n1,x\n2,y\n".encode("utf-16"), "not UTF-8 text (byte 0xff)"),
        (b"PAR1 not a table", "t.csv: has no column kind"),
        (b"\x00" * 100, "t.csv"),
    ],
)
def test_other_encodings(tmp_path, content, words):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_file(path, "kind")
    assert words in str(caught.value)


def table(**columns):
    return pa.table({"kind": ["x", "y"], **columns})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (table(a=["1", "2"]), "column a holds string; allowed: numbers"),
        (table(a=[[1], [2]]), "column a holds list"),
        (table(a=pa.array([0, 1], pa.timestamp("s"))), "column a holds timestamp"),
        (table(a=[1.0, None]), "column a: no number (empty or NaN) in row 2"),
        (table(a=[1.0, float("-inf")]), "column a: infinity in row 2"),
        (pa.table({"a": [1, 2], "kind": ["x", None]}), "column kind: no label"),
        (pa.table({"a": [1, 2], "kind": [["x"], ["y"]]}), "column kind holds list"),
        (pa.table([[1], [2], ["x"]], names=["a", "a", "kind"]), "two columns of one name: a"),
        (pa.table({"a": pa.array([], pa.int64()), "kind": pa.array([], pa.string())}), "no rows"),
        (b"", "not a readable table"),
        (b"PAR1" + b"\xff" * 50 + b"PAR1", "not a readable table"),
    ],
)
def test_bad_parquet(tmp_path, content, words):
    path = tmp_path / "t.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        pq.write_table(content, path)
    with pytest.raises(UserError) as caught:
        read_file(path, "kind")
    assert words in str(caught.value)


def test_an_index_of_pandas_is_no_column(tmp_path):
    frame = trees().set_index(pd.Index(range(100, 130), name="tree"))
    path = save(frame, tmp_path / "t.parquet")
    assert read_file(path, "kind")[0]["train"][0].shape == (30, 4)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_class_with_one_sample_cannot_be_split(tmp_path, suffix):
    frame = trees()
    frame.loc[3, "kind"] = "yew"
    frame.loc[4, "kind"] = "fir"
    path = save(frame, tmp_path / f"t{suffix}")
    with pytest.raises(UserError) as caught:
        load_dataset(settings(path, split=[0.6, 0.2, 0.2]), path)
    said = [str(fault) for fault in caught.value.faults]
    assert len(said) == 2
    assert "class fir has only 1 sample; data.split = [0.6, 0.2, 0.2] needs at least 3" in said[0]
    assert len(load_dataset(settings(path), path).train) == 30


def test_too_many_classes(tmp_path):
    frame = pd.DataFrame({"a": np.zeros(10_001), "kind": [f"id{i}" for i in range(10_001)]})
    path = save(frame, tmp_path / "t.csv")
    with pytest.raises(UserError, match=r"10,001 classes; at most 10,000"):
        read_file(path, "kind")


def test_what_would_not_fit_into_memory(tmp_path, monkeypatch):
    """A long text in every row, and more rows than memory: kept once, or refused."""
    texts = ["x" * 100_000, "y" * 100_000]
    rows = pa.DictionaryArray.from_arrays(pa.array([0, 1] * 5000, pa.int32()), texts)
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": np.zeros(10_000), "kind": rows}), path)
    assert [len(name) for name in read_file(path, "kind")[1]] == [100_000] * 2
    monkeypatch.setattr("tiltcli.data.limits.most_bytes", lambda: 10_000)
    for large in (path, save(trees(), tmp_path / "t.csv")):
        with pytest.raises(UserError, match="half of this machine's memory"):
            read_file(large, "kind")


@pytest.mark.parametrize("name", ["t.txt", "t", "t.csv.gz", "t.npy", "folder.csv", "nope.csv"])
def test_no_data_file(tmp_path, name):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match=r"must end in|not a plain file|No such file"):
        read_file(tmp_path / name, "kind")
