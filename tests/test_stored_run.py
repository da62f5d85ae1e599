"""A run stored by an earlier version: later ones resume it, read, pair, probe and report it."""

import shutil
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import tiltcli
from helpers import GRID as SMALL
from helpers import write_grid
from tiltcli.errors import UserError
from tiltcli.evaluation.selection import parse_selection, select
from tiltcli.execution.reprobing import probe_run
from tiltcli.grid import ProbeSettings, load_run, load_sweep
from tiltcli.reports import write_report

STORED = Path("tests/data/stored_run")
GRID = STORED / "grid.toml"
WHOLE = pd.read_csv(STORED / "whole.csv", dtype={"train.batch_size": str})


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """The stored half of the run, and the rest by this version."""
    results = tmp_path_factory.mktemp("results")
    shutil.copytree(STORED, results / "stored")
    summary = tiltcli.sweep(GRID, results=results, workers=0)
    assert (summary.total, summary.before, summary.ended.total()) == (24, 12, 12)
    return results


def by_job(frame):
    return frame.set_index("job").sort_index()


def sizes(values):
    """Batch sizes as the earlier version wrote them: texts."""
    return ["full" if pd.isna(value) else str(int(value)) for value in values]


def test_jobs_keep_their_ids():
    assert {job.id for job in load_sweep(GRID).jobs} == set(WHOLE["job"])


def test_resumed_it_is_what_the_earlier_version_made_whole(resumed):
    jobs, whole = by_job(tiltcli.read("stored", resumed).jobs), by_job(WHOLE)
    assert list(jobs.index) == list(whole.index)
    assert sizes(jobs["train.batch_size"]) == whole["train.batch_size"].tolist()
    for name in whole.columns.drop(["train.batch_size", "engine"]):
        new, old = jobs[name], whole[name]
        if name.endswith(("loss", "accuracy")):
            # The engines' own tests compare bits; another machine's torch may differ in the last.
            np.testing.assert_allclose(new.astype(float), old.astype(float), rtol=1e-9)
        elif name != "error":  # it has a loss in it, too
            assert [a for a in new if pd.notna(a)] == [a for a in old if pd.notna(a)], name
            assert new.isna().tolist() == old.isna().tolist(), name


def test_batch_sizes_of_both_versions_are_read_alike(resumed, tmp_path):
    old = tiltcli.read(STORED).jobs
    assert pq.read_schema(next(STORED.glob("jobs/*.parquet"))).field("train.batch_size").type == (
        "string"
    )
    mixed = tmp_path / "stored"
    shutil.copytree(STORED, mixed)
    for new in (resumed / "stored").rglob("*.parquet"):
        shutil.copy(new, mixed / new.parent.name / f"w-1.{new.name.rpartition('.0')[2]}")
    both = tiltcli.read(mixed).jobs
    assert len(list(mixed.glob("jobs/*.parquet"))) > 2
    expected = by_job(WHOLE)["train.batch_size"]
    for jobs, number in ((old, 12), (both, 24)):
        assert len(jobs) == number
        assert pd.api.types.is_numeric_dtype(jobs["train.batch_size"])
        assert sizes(by_job(jobs)["train.batch_size"]) == expected[sorted(jobs["job"])].tolist()
        for text in ("== full", "== null", "!= 8"):
            kept = select(jobs, parse_selection(f"train.batch_size {text}"))
            assert set(kept["job"]) == set(jobs["job"]) & set(expected.index[expected == "full"])


def test_resuming_leaves_files_of_one_layout(resumed):
    """Other readers glob the files, and trip over columns of two types."""
    files = str(resumed / "stored" / "jobs" / "*.parquet")
    found = duckdb.sql(f"""
        select "train.batch_size" as size, count(*) as n from '{files}' group by size order by size
    """)
    assert found.fetchall() == [(8, 12), (None, 12)]
    assert found.types[0] == "BIGINT"


def test_it_is_paired_probed_and_reported(resumed, tmp_path):
    full = tiltcli.compare(
        *(f"stored@loss.kind={kind},train.lr=0.5" for kind in ("static", "dynamical")),
        results=resumed,
        where=["train.batch_size == full"],
    )
    assert set(full.rows["n"]) == {2}
    before = tiltcli.read("stored", resumed).probes
    assert set(before["epoch"]) == {0, 5, 10}
    found = probe_run("stored", ProbeSettings(every=6), results=resumed, workers=0)
    assert not found.refused
    # Of each job that got to epochs 6 and 12; 0 was there.
    completed = WHOLE.loc[WHOLE["outcome"] == "completed", "job"]
    after = tiltcli.read("stored", resumed).probes
    assert {0, 5, 6, 10, 12} == set(after["epoch"])
    assert set(after.loc[after["epoch"] == 12, "job"]) == set(completed)
    pd.testing.assert_frame_equal(
        after[after["epoch"].isin([0, 5, 10])].reset_index(drop=True), before
    )
    for name in ("page.html", "page.md"):
        write_report(["stored"], tmp_path / name, resumed)
        assert "stored" in (tmp_path / name).read_text(encoding="utf-8")


def test_a_grid_that_an_earlier_version_let_pass_is_still_read(tmp_path):
    """Momentum beside Adam alone: refused of a grid that is new, and no fault of a stored run."""
    grid = SMALL + 'optimizer = "adam"\n'
    tiltcli.sweep(write_grid(tmp_path, grid, "spare"), results=tmp_path / "results")
    stored = tmp_path / "results" / "spare" / "sweep.toml"
    stored.write_text(stored.read_text() + "momentum = 0.9\n", encoding="utf-8")
    assert load_run(stored.parent).unused == ("train.momentum",)
    with pytest.raises(UserError, match="to no job of this grid"):
        load_sweep(stored)
