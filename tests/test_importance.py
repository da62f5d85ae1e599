"""What goes with each axis: sums of squares written out, and grids whose answer is known."""

import itertools

import numpy as np
import pandas as pd
import pytest

from tiltcli.evaluation.importance import importances, in_words
from tiltcli.reports.page_data import parallel


def jobs_of(value, seeds=4, noise=0.0):
    """Two widths, three amplitudes, two learning rates, and static; accuracies as `value` says."""
    draw = np.random.default_rng(3)
    rows = []
    for width, lr, amplitude in itertools.product((4, 8), (0.1, 1.0), (np.nan, 2.0, 3.0, 5.0)):
        for seed in range(seeds):
            kind = "static" if np.isnan(amplitude) else "dynamical"
            accuracy = value(width, lr, amplitude) + noise * draw.normal()
            rows.append(
                {
                    "job": f"{width}-{lr}-{amplitude}-{seed}",
                    "outcome": "completed",
                    "data.kind": "spiral",
                    "data.classes": 3,
                    "model.width": width,
                    "loss.kind": kind,
                    "loss.amplitude": amplitude,
                    "loss.period": 10.0 if kind == "dynamical" else np.nan,
                    "train.lr": lr,
                    "train.seed": seed,
                    "parameters": 6 * width + 3,
                    "train_samples": 60,
                    "train_accuracy": accuracy,
                    "val_accuracy": accuracy,
                }
            )
    return pd.DataFrame(rows)


def by_definition(jobs, setting):
    known = jobs[jobs[setting].notna()]
    cells = known.groupby(["model.width", "train.lr", "loss.kind", "loss.amplitude"], dropna=False)[
        "val_accuracy"
    ].mean()
    level = cells.index.get_level_values(setting)
    whole = sum((x - cells.mean()) ** 2 for x in cells)
    between = 0.0
    for one in set(level):
        own = cells[level == one]
        between += len(own) * (own.mean() - cells.mean()) ** 2
    return between / whole


AXES = ["model.width", "train.lr", "loss.kind", "loss.amplitude"]


def test_shares_are_sums_of_squares():
    jobs = jobs_of(lambda w, lr, a: 0.5 + 0.02 * w + 0.1 * lr * w / 8 - 0.01 * (a == 3), noise=0.02)
    _, found = importances(jobs, "val_accuracy")
    assert {one.setting for one in found} == set(AXES)
    for one in found:
        assert one.share == pytest.approx(by_definition(jobs, one.setting))
        assert 0 <= one.low <= one.high <= 1
    assert [one.share for one in found] == sorted((one.share for one in found), reverse=True)
    again = importances(jobs.sample(frac=1, random_state=0), "val_accuracy")[1]
    assert [one.setting for one in again] == [one.setting for one in found]
    assert [one.share for one in again] == pytest.approx([one.share for one in found])


def test_an_axis_that_decides_all_has_all_and_the_rest_nothing():
    _, found = importances(jobs_of(lambda w, lr, a: 0.5 + 0.04 * w), "val_accuracy")
    assert found[0].setting == "model.width"
    assert (found[0].share, found[0].low, found[0].high) == pytest.approx((1, 1, 1))
    assert all(one.high == pytest.approx(0, abs=1e-12) for one in found[1:])


def test_more_replicates_make_it_surer():
    def width(seeds):
        jobs = jobs_of(lambda w, lr, a: 0.5 + 0.01 * w, seeds, noise=0.03)
        (one,) = [x for x in importances(jobs, "val_accuracy")[1] if x.setting == "model.width"]
        return one.high - one.low

    assert width(64) < width(4)


def test_one_replicate_has_no_interval_and_one_level_no_share():
    jobs = jobs_of(lambda w, lr, a: 0.5 + 0.01 * w, seeds=1)
    assert all(np.isnan(one.low) for one in importances(jobs, "val_accuracy")[1])
    assert "width 100%, " in in_words(jobs, "val_accuracy")
    flat = jobs_of(lambda w, lr, a: 0.75)
    assert all(np.isnan(one.share) for one in importances(flat, "val_accuracy")[1])
    assert in_words(flat, "val_accuracy") == ""
    one_axis = jobs[jobs["model.width"].eq(4) & jobs["loss.kind"].eq("static")]
    assert parallel(one_axis, "val_accuracy") is None


def test_lines_stand_at_their_values():
    jobs = jobs_of(lambda w, lr, a: 0.5 + 0.01 * w + 0.001 * lr)
    page = parallel(jobs, "val_accuracy")
    assert page["cells"] == len(page["means"]) == 16
    assert page["means"] == sorted(page["means"])
    axes = {axis["name"]: axis for axis in page["axes"]}
    assert axes["width"]["levels"] == ["4", "8"] and axes["width"]["at"] == [0] * 8 + [1] * 8
    assert axes["amplitude"]["levels"] == ["2", "3", "5"]
    assert sorted(axes["amplitude"]["at"]) == [-1] * 4 + [0] * 4 + [1] * 4 + [2] * 4
