"""A system that refuses to read says nothing about the file: tried again, and never set aside."""

import errno
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import tiltcli
from helpers import same_tables, write_grid
from tiltcli.errors import UserError
from tiltcli.store import parquet

PASSING = [errno.EMFILE, errno.EIO, errno.ESTALE, errno.EACCES]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A grid, its run, and what that holds."""
    folder = tmp_path_factory.mktemp("made")
    grid = write_grid(folder)
    tiltcli.sweep(grid, results=folder, overrides=["train.epochs=50"])
    return grid, folder, tiltcli.read("grid", folder)


@pytest.fixture
def refuse(monkeypatch):
    """Let the system refuse a file a number of times; gives the paths of the refusals."""
    monkeypatch.setattr(parquet, "WAITS", (0.0, 0.0, 0.0))
    refusals = []

    def refuse(table, number, times):
        opened = pq.ParquetFile.__init__

        def opens(self, source, *arguments, **options):
            if Path(str(source)).parent.name == table and len(refusals) < times:
                refusals.append(source)
                raise OSError(number, os.strerror(number))
            opened(self, source, *arguments, **options)

        monkeypatch.setattr(pq.ParquetFile, "__init__", opens)
        return refusals

    return refuse


@pytest.mark.parametrize("table", ["jobs", "metrics"])
@pytest.mark.parametrize("number", PASSING, ids=errno.errorcode.get)
def test_one_that_passes_costs_nothing(made, refuse, table, number):
    grid, folder, before = made
    refusals = refuse(table, number, 2)
    same_tables(tiltcli.read("grid", folder), before)
    assert len(refusals) == 2
    refusals.clear()
    summary = tiltcli.sweep(grid, results=folder, overrides=["train.epochs=50"])
    assert len(refusals) == 2
    assert not sum(summary.ended.values())
    assert not summary.notes
    assert not list(folder.rglob("*.damaged"))


@pytest.mark.parametrize("table", ["jobs", "metrics"])
@pytest.mark.parametrize("number", PASSING, ids=errno.errorcode.get)
def test_one_that_lasts_stops_and_names_the_file(made, refuse, table, number):
    grid, folder, _ = made
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}
    refuse(table, number, 10**6)
    for act in (
        lambda: tiltcli.read("grid", folder),
        lambda: tiltcli.sweep(grid, results=folder, overrides=["train.epochs=50"]),
    ):
        with pytest.raises(UserError, match=f"{table}/.*{os.strerror(number)}.*left as it is"):
            act()
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")} == files
    assert not list(folder.rglob("*.damaged"))
