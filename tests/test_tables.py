"""The user's own tables: labels of every kind, and every fault with its column and row."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder

from tiltcli.data import dataset_of, load_dataset
from tiltcli.data.encoding import encode
from tiltcli.errors import UserError
from tiltcli.grid import parse_sweep


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
    data = load_dataset(settings(path))
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
    data = load_dataset(settings(path))
    assert data.labels == names
    # Every row has the class of its label, whatever form the label was read in.
    wanted = pd.factorize(frame["kind"], sort=False)[0]
    numbers = pd.factorize(data.train.y, sort=False)[0]
    np.testing.assert_array_equal(numbers, wanted)


def test_numbers_of_every_kind(tmp_path):
    frame = trees()
    frame["a"] = np.arange(30, dtype=np.uint8)
    frame["b"] = frame["b"] > 0
    frame["c"] = pd.array(np.arange(30), dtype="Int64")
    path = save(frame, tmp_path / "t.parquet")
    X = load_dataset(settings(path)).train.X
    assert X.dtype == np.float64 and X[7, 0] == 7 == X[7, 2]
    csv = tmp_path / "t.csv"
    huge = 123456789012345678901234567890
    csv.write_text(f"a,kind\n{huge},x\n-1e-3,y\n")
    assert load_dataset(settings(csv)).train.X.tolist() == [[float(huge)], [-0.001]]
    csv.write_bytes(b"\xef\xbb\xbfa,kind\r\n1,x\r\n2,y\r\n")  # as spreadsheets save it
    assert load_dataset(settings(csv)).train.X.tolist() == [[1], [2]]


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
            "column b: infinity, or beyond 1.8e308, in 2 rows (2, 4)",
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
    "400 digits": (
        f"a,b,kind\n{'9' * 400},1,x\n2,-{'9' * 400},y\n",
        [f"column {name}: infinity, or beyond 1.8e308, in row {n}" for name, n in ("a1", "b2")],
    ),
    "5000 digits": (f"a,kind\n1,x\n{'9' * 5000},y\n3,y\n", ["column a: text where numbers", "…'"]),
    "zero bytes": ("a,kind\n1\0,x\n2,y\n", ["column a"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_csv(tmp_path, name):
    text, words = BAD[name]
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_dataset(settings(path))
    said = [str(fault) for fault in caught.value.faults]
    assert all(str(path) in line for line in said)
    for word in words:
        assert any(word in line for line in said), said
    if name == "all faults at once":
        assert len(said) == len(words)


def test_a_table_needs_a_target(tmp_path):
    path = save(trees(), tmp_path / "t.csv")
    with pytest.raises(UserError, match=r"needs data\.target"):
        load_dataset(settings(path, target=None))


def test_many_faults_are_cut(tmp_path):
    path = tmp_path / "t.csv"
    names = [f"c{i}" for i in range(50)]
    path.write_text(",".join([*names, "kind"]) + "\n" + ",".join(["?"] * 50 + ["x"]) + "\n")
    with pytest.raises(UserError) as caught:
        load_dataset(settings(path))
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
        load_dataset(settings(path))
    assert words in str(caught.value)


def table(**columns):
    return pa.table({"kind": ["x", "y"], **columns})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            table(a=["1", "2"]),
            "column a: text where numbers belong in 2 rows (1, 2): '1'; data.cat",
        ),
        (table(a=[[1], [2]]), "column a: lists; allowed: numbers and texts"),
        (table(a=[b"1", b"2"]), "column a: bytes; allowed"),
        (table(a=[None, None]), "column a: nothing; allowed"),
        (table(a=pa.array([0, 1], pa.duration("s"))), "column a: spans of time; allowed"),
        (table(a=pa.array([0, 1], pa.timestamp("s"))), "column a: dates, which are no numbers"),
        (table(a=pa.array([0, 1], pa.date32())), "column a: dates, which are no numbers"),
        (table(__index_level_0__=[0, 1]), "'__index_level_0__': an index that pandas wrote"),
        (table(a=[1.0, None]), "column a: no number (empty or NaN) in row 2"),
        (table(a=[1.0, float("-inf")]), "column a: infinity, or beyond 1.8e308, in row 2"),
        (pa.table({"a": [1, 2], "kind": ["x", None]}), "column kind: no label"),
        (pa.table({"a": [1, 2], "kind": [["x"], ["y"]]}), "column kind: lists; allowed: labels"),
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
        load_dataset(settings(path))
    assert words in str(caught.value)


def test_an_index_of_pandas_is_no_column(tmp_path):
    frame = trees().set_index(pd.Index(range(100, 130), name="tree"))
    path = save(frame, tmp_path / "t.parquet")
    assert load_dataset(settings(path)).train.X.shape == (30, 4)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_class_with_one_sample_cannot_be_split(tmp_path, suffix):
    frame = trees()
    frame.loc[3, "kind"] = "yew"
    frame.loc[4, "kind"] = "fir"
    path = save(frame, tmp_path / f"t{suffix}")
    with pytest.raises(UserError) as caught:
        load_dataset(settings(path, split=[0.6, 0.2, 0.2]))
    said = [str(fault) for fault in caught.value.faults]
    assert len(said) == 2
    assert "class fir has only 1 sample; data.split = [0.6, 0.2, 0.2] needs at least 3" in said[0]
    assert len(load_dataset(settings(path)).train) == 30


def test_too_many_classes(tmp_path):
    frame = pd.DataFrame({"a": np.zeros(10_001), "kind": [f"id{i}" for i in range(10_001)]})
    path = save(frame, tmp_path / "t.csv")
    with pytest.raises(UserError, match=r"10,001 classes; at most 10,000"):
        load_dataset(settings(path))


def test_what_would_not_fit_into_memory(tmp_path, monkeypatch):
    """A long text in every row, and more rows than memory: kept once, or refused."""
    texts = ["x" * 100_000, "y" * 100_000]
    rows = pa.DictionaryArray.from_arrays(pa.array([0, 1] * 5000, pa.int32()), texts)
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": np.zeros(10_000), "kind": rows}), path)
    assert [len(name) for name in load_dataset(settings(path)).labels] == [100_000] * 2
    monkeypatch.setattr("tiltcli.data.limits.most_bytes", lambda: 10_000)
    for large in (path, save(trees(), tmp_path / "t.csv")):
        with pytest.raises(UserError, match="half of this machine's memory"):
            load_dataset(settings(large))


@pytest.mark.parametrize("name", ["t.txt", "t", "t.csv.gz", "t.npy", "folder.csv", "nope.csv"])
def test_no_data_file(tmp_path, name):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match=r"must end in|not a plain file|No such file"):
        load_dataset(settings(tmp_path / name))


MIXED = pd.DataFrame(
    {
        "age": [20, 30, np.nan, 50, 26, 80, 41, 33, np.nan, 64],
        "job": ["cook", "clerk", "cook", np.nan, "smith", "cook", "clerk", "cook", "baker", "cook"],
        "tall": [True, False, True, True, False, True, False, True, False, True],
        "kind": ["x", "y"] * 5,
    }
)


def by_scikit_learn(train, table):
    """The very same by its transformers, a column after the other."""
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    parts = [("age", SimpleImputer(strategy="median"), ["age"]), ("job", encoder, ["job"])]
    columns = ColumnTransformer([*parts, ("tall", "passthrough", ["tall"])])
    return columns.fit(train).transform(table).astype(float)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_texts_and_gaps_as_scikit_learn_has_them(tmp_path, suffix):
    later = MIXED.iloc[::-1].assign(job=["cook", "spy"] * 5, age=[np.nan, 7] * 5)
    train = save(MIXED, tmp_path / f"t{suffix}")
    paths = {
        "test_path": str(save(later[["job", "kind", "age", "tall"]], tmp_path / f"u{suffix}")),
        "val_path": str(save(MIXED[:4], tmp_path / f"v{suffix}")),
    }
    data = load_dataset(settings(train, categorical="onehot", missing="median", **paths))
    for part, table in ((data.train, MIXED), (data.val, MIXED[:4]), (data.test, later)):
        np.testing.assert_array_equal(part.X, by_scikit_learn(MIXED, table))
    # What was learnt is plain JSON, and does the same to other tables.
    np.testing.assert_array_equal(encode(later, json.loads(data.encoding)), data.test.X)
    assert data.train.X.shape == (10, 1 + 5 + 1)


def test_learnt_on_the_training_part_alone(tmp_path):
    frame = pd.concat([MIXED] * 10, ignore_index=True)
    frame["age"] = np.arange(100.0)
    frame.loc[::7, "age"] = np.nan
    frame["job"] = [f"job {i // 3}" for i in range(100)]
    path = save(frame, tmp_path / "t.csv")
    more = {"categorical": "onehot", "missing": "median", "split": [0.5, 0.25, 0.25], "seed": 4}
    data = load_dataset(settings(path, **more))
    encoding = {one["column"]: one for one in json.loads(data.encoding)}
    rows = [int(row[0]) for row in data.train.X if row[0] % 7]
    kinds = encoding["job"]["categories"]
    assert {f"job {row // 3}" for row in rows} <= set(kinds) and len(kinds) < 34
    gaps = data.test.X[:, 0] == encoding["age"]["median"]
    assert gaps.any()
    known = [row for row in data.train.X[:, 0] if row != encoding["age"]["median"]]
    assert encoding["age"]["median"] == pytest.approx(np.median(known), abs=2)
    assert (data.test.X[:, 1:-1].sum(axis=1) == 0).any()  # a job that training lacks


def test_codes_are_texts_whatever_they_look_like(tmp_path):
    """As in every file of the data: 007 is not 7, and a column of 12 alone is no number there."""
    train, test = tmp_path / "t.csv", tmp_path / "u.csv"
    train.write_text("code,kind\n007,x\nA7,y\nB9,x\n12,y\n")
    test.write_text("code,kind\n007,x\n12,y\n")
    data = load_dataset(settings(train, categorical="onehot", test_path=str(test)))
    assert json.loads(data.encoding)[0]["categories"] == ["007", "12", "A7", "B9"]
    assert data.test.X.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0]]
    gaps = pd.DataFrame({"code": [12.0, np.nan]})
    assert encode(gaps, json.loads(data.encoding)).tolist() == [[0, 1, 0, 0], [0, 0, 0, 0]]


REFUSED = {
    "a hint that mends it": (
        "a,job,kind\n1,cook,x\n,clerk,y\n3,,x\n",
        {},
        [
            'column a: no number (empty or NaN) in row 2; data.missing = "median" fills in',
            "column job: text where numbers belong in 2 rows (1, 2): 'cook'; data.categorical = "
            '"onehot" makes a column of 0 and 1 of each of its 2 texts',
            'column job: no text (empty or missing) in row 3; data.missing = "median" makes',
        ],
    ),
    "one text among numbers": (
        "a,kind\n1,x\n2,y\n?,x\n",
        {"categorical": "onehot", "missing": "median"},
        ["column a: text where numbers belong in row 3: '?'"],
    ),
    "dates": (
        "day,kind\n2024-01-31,x\n2024-02-29 12:00,y\n",
        {"categorical": "onehot"},
        ["column day: dates, which are no numbers; make numbers of them (year, month, days since"],
    ),
    "identifiers": (
        "id,kind\n" + "".join(f"case {i},{'xy'[i % 2]}\n" for i in range(40)),
        {"categorical": "onehot"},
        ["column id: 40 different texts in 40 rows, as names or numbers of cases have"],
    ),
    "an index without a name": (
        ",a,kind\n0,1,x\n1,,y\n",
        {},
        [
            "column a: no number (empty or NaN) in row 2",
            "column 1 is called '': an index that pandas wrote along? It is no feature: leave it",
        ],
    ),
    "an index with pandas' name": (
        "Unnamed: 0,a,kind\n0,1,x\n1,2,y\n",
        {},
        ["column 1 is called 'Unnamed: 0': an index that pandas wrote along?"],
    ),
    "nothing but gaps": (
        "a,b,kind\n1,,x\n2,,y\n",
        {"missing": "median"},
        ["column b: no number in the training part; leave the column out"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_become_numbers(tmp_path, name):
    text, more, words = REFUSED[name]
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_dataset(settings(path, **more))
    said = [str(fault) for fault in caught.value.faults]
    assert len(said) == len(words), said
    assert all(f"{path}: {word}" in line for line, word in zip(said, words, strict=True)), said


def test_faults_of_all_files_at_once(tmp_path):
    train, val, test = (tmp_path / f"{part}.csv" for part in ("train", "val", "test"))
    train.write_text("a,b,kind\n1,2,x\n2,,y\n")
    val.write_text("a,kind\n1,x\n")
    test.write_text("a,b,kind\n1,three,x\n1,2,\n")
    paths = {"val_path": str(val), "test_path": str(test)}
    with pytest.raises(UserError) as caught:
        load_dataset(settings(train, **paths))
    said = [str(fault) for fault in caught.value.faults]
    assert [line.partition(": ")[0] for line in said] == [*map(str, (train, val, test, test))]
    assert "lacks columns that training had: b" in said[1]
    val.write_text("a,b,kind\n1,1,z\n")
    train.write_text("a,b,kind\n1,2,x\n2,1,y\n")
    with pytest.raises(UserError, match=r"val\.csv has labels that training lacks: z"):
        load_dataset(settings(train, val_path=str(val)))
    with pytest.raises(UserError, match=r"a share for val, and there is such a part already"):
        load_dataset(settings(train, val_path=str(train), split=[0.5, 0.5, 0.0]))
    (tmp_path / "a.npz").touch()
    with pytest.raises(UserError, match=r"\.npz files alone, or \.parquet and \.csv alone"):
        load_dataset(settings(train, val_path=str(tmp_path / "a.npz")))


def test_labels_are_whole_numbers_only_if_all_are(tmp_path):
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text("a,kind\n1,1\n2,02\n3,1\n")
    test.write_text("a,kind\n1,2\n2,1.0\n")
    data = load_dataset(settings(train, test_path=str(test)))
    assert data.labels == ("1", "2") and data.test.y.tolist() == [1, 0]
    test.write_text("a,kind\n1,2\n2,other\n")
    with pytest.raises(UserError, match="labels that training lacks: 2, other"):
        load_dataset(settings(train, test_path=str(test)))


def test_every_file_is_part_of_the_identity(tmp_path):
    grid = """
    [data]
    kind = "file"
    path = "t.csv"
    target = "kind"
    [model]
    width = 2
    [loss]
    kind = "static"
    [train]
    epochs = 1
    """
    save(trees(), tmp_path / "t.csv")
    save(trees(9), tmp_path / "u.csv")
    more = grid.replace('"t.csv"', '"t.csv"\ntest_path = "u.csv"')
    first, second = (parse_sweep(g, name="g", folder=tmp_path).jobs[0] for g in (grid, more))
    assert first.id != second.id and len(dataset_of(second).test) == 9
    save(trees(12), tmp_path / "u.csv")
    third = parse_sweep(more, name="g", folder=tmp_path).jobs[0]
    assert third.id != second.id and len(dataset_of(third).test) == 12
    defaults = grid.replace('"kind"', '"kind"\nmissing = "refuse"\ncategorical = "refuse"')
    assert parse_sweep(defaults, name="g", folder=tmp_path).jobs[0].id == first.id
