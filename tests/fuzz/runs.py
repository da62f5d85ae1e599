"""Damage to run directories: to their bytes, their files and what stands in their tables."""

import random
import shutil

import pyarrow as pa
import pyarrow.parquet as pq

from fuzz.mutate import mutated

STRAY = [
    "000000-999999.parquet", "000001-000000.parquet", "000000-000000.parquet", ".x.tmp",
    "x.parquet",
    "99999999999999999999999-99999999999999999999999.parquet", "000000-000000.damaged", "…", "core",
]  # fmt: skip
DEEP = b'{"jobs": ' + b"[" * 100_000
PAGES = [
    b"", b"[]", b"{}", b"null", b"7", DEEP, b'{"jobs": "many"}', b'{"jobs": 1e400}', b"\xff\xfe",
    b'{"jobs": -1, "invocations": 3}', b'{"jobs": [1], "invocations": {}}',
    b'{"invocations": [null, 3]}',
]  # fmt: skip


def damage(folder, rng):
    """One to three damages."""
    for _ in range(rng.randint(1, 3)):
        rng.choice([_bytes, _bytes, _bytes, _table, _table, _table, _files, _page])(folder, rng)


def _files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _bytes(folder, rng):
    if files := _files_of(folder):
        path = rng.choice(files)
        path.write_bytes(mutated(path.read_bytes(), rng))


def _page(folder, rng):
    name = rng.choice(["provenance.json", "provenance-1-of-2.json"])
    if not (folder / name).is_dir():
        (folder / name).write_bytes(rng.choice(PAGES))


def _files(folder, rng):
    files = _files_of(folder)
    kind = rng.randrange(5)
    if kind == 0 and files:
        rng.choice(files).unlink()
    elif kind == 1 and files:
        path = rng.choice(files)
        path.unlink()
        path.mkdir()
    elif kind == 2 and len(files) > 1:
        a, b = rng.sample(files, 2)
        shutil.copyfile(a, b)
    elif kind == 3:
        place = rng.choice([folder, folder / "jobs", folder / "metrics"])
        if place.is_dir() and not (place / (name := rng.choice(STRAY))).exists():
            content = rng.choice(files).read_bytes() if files and rng.random() < 0.5 else b"?"
            (place / name).write_bytes(content)
    elif kind == 4:
        place = folder / rng.choice(["jobs", "metrics", "probes"])
        if place.is_dir():
            shutil.rmtree(place)


def _table(folder, rng):
    """Write a whole and valid Parquet file with the wrong things in it."""
    found = [path for path in _files_of(folder) if path.suffix == ".parquet"]
    if not found:
        return
    path = rng.choice(found)
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError):
        return
    names = table.schema.names
    name = rng.choice(["job", "outcome", "epoch", *names])
    at = names.index(name) if name in names else rng.randrange(len(names) or 1)
    if not names:
        return
    column, kind = table.column(at), rng.randrange(8)
    if kind == 0:
        table = table.remove_column(at)
    elif kind == 1:
        table = table.set_column(at, names[at], pa.nulls(len(table), column.type))
    elif kind == 2:
        table = table.set_column(at, names[at], pa.array(["?"] * len(table)))
    elif kind == 3:
        values = [rng.choice([-1, 0, 2**62]) for _ in range(len(table))]
        table = table.set_column(at, names[at], pa.array(values, pa.int64()))
    elif kind == 4:
        values = [rng.choice([float("nan"), float("inf"), -1e308, 0.5]) for _ in range(len(table))]
        table = table.set_column(at, names[at], pa.array(values, pa.float64()))
    elif kind == 5:
        table = pa.concat_tables([table, table])
    elif kind == 6:
        table = table.slice(0, rng.randrange(len(table) + 1))
    else:
        table = table.set_column(at, names[at], pa.array([[1]] * len(table)))
    pq.write_table(table, path)


def generator(target, number):
    """Return the generator of one input: the same on every machine."""
    return random.Random(f"{target}-{number}")
