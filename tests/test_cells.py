"""Cells against the contract's words, on tables small enough to read; and on a large one."""

import itertools
import math
import statistics

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from tiltcli.evaluation.cells import best, cell_records, choosing_metric, gather, ranked, scores

TILT = ("loss.amplitude", "loss.period", "loss.rest", "loss.settle", "loss.shape")
REPLICATES = ("train.seed", "data.seed")
CLASSES = 4


def job(kind="static", seed=0, amplitude=None, *, outcome="completed", **more):
    """A row of a jobs table, with accuracies that no two jobs share."""
    tilt = kind == "dynamical"
    row = {
        "outcome": outcome,
        "data.kind": "digits",
        "data.seed": 0,
        "model.width": 10,
        "loss.kind": kind,
        "loss.base": "cross_entropy",
        "loss.amplitude": amplitude if tilt else None,
        "loss.period": 20 if tilt else None,
        "loss.rest": 0 if tilt else None,
        "loss.settle": 0 if tilt else None,
        "loss.shape": "triangle" if tilt else None,
        "train.optimizer": "sgd",
        "train.momentum": 0.0,
        "train.lr": 1.0,
        "train.seed": seed,
        "labels": '["a", "b", "c", "d"]',
        "parameters": 63,
        "train_samples": 300,
    } | more
    settings = tuple((k, v) for k, v in row.items() if "." in k)
    draw = np.random.default_rng([ord(c) for c in repr(settings)])
    for part in ("train", "val", "test"):
        row.setdefault(f"{part}_accuracy", draw.uniform(0.3, 1))
        row.setdefault(f"{part}_loss", draw.uniform(0, 2))
    if outcome == "failed":
        row |= {name: None for name in row if name.endswith(("_accuracy", "_loss"))}
    return {"job": repr(settings)} | row


def table(*rows):
    frame = pd.DataFrame(rows)
    for name in ("loss.amplitude", "loss.period", "loss.rest", "loss.settle", "train.momentum"):
        frame[name] = frame[name].astype(float)
    return frame


def plain(value):
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else value


class Oracle:
    """The contract in loops: cells are dicts of jobs, by all settings but those that repeat."""

    def __init__(self, jobs):
        self.cells = {}
        for row in jobs.to_dict("records"):
            row = {name: plain(value) for name, value in row.items()}
            settings = tuple(
                (name, value)
                for name, value in sorted(row.items())
                if "." in name and name not in (*REPLICATES, "data.path", "model.init_file")
            )
            self.cells.setdefault(settings, []).append(row)

    def group(self, settings):
        return tuple(one for one in settings if one[0] not in (*TILT, "loss.kind"))

    def partner(self, settings):
        for other in self.cells:
            if dict(other)["loss.kind"] == "static" and self.group(other) == self.group(settings):
                return other
        return None

    @staticmethod
    def counted(row, metric):
        if row["outcome"] == "failed" or row[metric] is None:
            return None
        if row["outcome"] == "diverged":
            return min(row[metric], 1 / CLASSES) if metric.endswith("accuracy") else None
        return row[metric]

    def values(self, pairs, rows):
        """Mean, low, high and n of (job, value) pairs: over draws where there are several."""
        draws = {row["data.seed"] for row in rows}
        unit = "data.seed" if len(draws) > 1 else "train.seed"
        units = {}
        for row, value in pairs:
            if value is not None:
                units.setdefault(row[unit], []).append(value)
        means = [statistics.fmean(values) for values in units.values()]
        n = len(means)
        if not n:
            return (math.nan, math.nan, math.nan, 0)
        mean = statistics.fmean(means)
        if n < 2:
            return (mean, math.nan, math.nan, n)
        half = student.ppf(0.975, n - 1) * statistics.stdev(means) / math.sqrt(n)
        return (mean, mean - half, mean + half, n)

    def level(self, settings, metric):
        rows = self.cells[settings]
        return self.values([(row, self.counted(row, metric)) for row in rows], rows)

    def change(self, settings, metric):
        partner = self.partner(settings)
        if partner is None or partner == settings:
            return (math.nan, math.nan, math.nan, 0)
        pairs = []
        for row in self.cells[settings]:
            for other in self.cells[partner]:
                if all(row[name] == other[name] for name in REPLICATES):
                    both = self.counted(row, metric), self.counted(other, metric)
                    pairs.append((row, None if None in both else both[0] - both[1]))
        return self.values(pairs, self.cells[settings])

    def regime(self, settings):
        partner = self.partner(settings)
        if partner is None or math.isnan(level := self.level(partner, "train_accuracy")[0]):
            return "unknown"
        return "overparameterised" if level >= 0.99 - 1e-12 else "underparameterised"


METRICS = ("train_accuracy", "val_accuracy", "test_accuracy", "test_loss")


def agrees(jobs):
    """Assert that every cell, and nothing else, is there with the oracle's numbers."""
    found, oracle = gather(jobs, METRICS), Oracle(jobs)
    number = {
        settings: {int(found.of_job[row["job"]]) for row in rows}
        for settings, rows in oracle.cells.items()
    }
    assert all(len(numbers) == 1 for numbers in number.values())
    assert sorted(n for numbers in number.values() for n in numbers) == list(found.rows.index)
    for settings, (cell,) in number.items():
        row, jobs_of = found.rows.loc[cell], oracle.cells[settings]
        for metric in METRICS:
            level = [row[f"{metric}:{name}"] for name in ("mean", "low", "high", "n")]
            np.testing.assert_allclose(level, oracle.level(settings, metric), atol=1e-12)
            names = ("change", "change_low", "change_high", "pairs")
            change = [row[f"{metric}:{name}"] for name in names]
            np.testing.assert_allclose(change, oracle.change(settings, metric), atol=1e-12)
        for outcome in ("completed", "diverged", "failed"):
            assert row[outcome] == sum(one["outcome"] == outcome for one in jobs_of)
        assert row["jobs"] == len(jobs_of)
        assert row["lost"] == row["diverged"] + row["failed"]
        assert sorted(found.jobs_of(cell)) == sorted(one["job"] for one in jobs_of)
        partner = oracle.partner(settings)
        assert row["partner"] == (-1 if partner is None else next(iter(number[partner])))
        assert row["regime"] == oracle.regime(settings)
        assert row["static"] == (dict(settings)["loss.kind"] == "static")
        for name in (*found.outside, *found.inside):
            if not row["static"] or name in found.outside:
                assert plain(row[name]) == dict(settings)[name]
    groups = {oracle.group(settings) for settings in oracle.cells}
    assert found.rows["group"].nunique() == len(groups)
    return found


def grid(seeds=range(3), amplitudes=(3, 10), kinds=("static", "dynamical"), **axes):
    """Rows of the product of some axes."""
    rows = []
    for values in itertools.product(*axes.values()):
        more = dict(zip(axes, values, strict=True))
        for seed in seeds:
            rows += [job("static", seed, **more)] * ("static" in kinds)
            rows += [job("dynamical", seed, a, **more) for a in amplitudes] * ("dynamical" in kinds)
    return rows


FOREIGN = {
    "lr": {"train.lr": (0.1, 0.310723250595, 3.0)},
    "width and lr": {"model.width": (3, 10), "train.lr": (0.1, 1.0)},
    "base": {"loss.base": ("cross_entropy", "mse")},
    "noise": {"data.noise": (0.1, 0.2)},
}


@pytest.mark.parametrize("axes", FOREIGN.values(), ids=FOREIGN.keys())
def test_no_axis_is_pooled(axes):
    rows = grid(**axes)
    found = agrees(table(*rows))
    combinations = math.prod(map(len, axes.values()))
    assert len(found.rows) == 3 * combinations
    assert set(found.rows["jobs"]) == {3}
    assert found.outside == tuple(axes)
    assert found.inside == ("loss.amplitude",)


def test_one_of_everything():
    found = agrees(table(*grid(amplitudes=(3,))))
    assert len(found.rows) == 2
    assert (found.outside, found.inside) == ((), ())
    assert set(found.rows["group"]) == {0}
    assert {"model.width", "loss.amplitude", "loss.period"} <= set(found.rows.columns)
    agrees(table(job("dynamical", 0, 3)))


def test_settings_of_the_tilt_alone_share_their_static_partner():
    rows = [
        *grid(amplitudes=(3,)),
        *(job("dynamical", s, 3, **{"loss.shape": "sine"}) for s in (0, 1)),
    ]
    rows += [job("dynamical", s, 3, **{"loss.rest": 1}) for s in (0, 2)]
    found = agrees(table(*rows))
    assert found.inside == ("loss.rest", "loss.shape")
    assert found.rows["partner"].nunique() == 1
    assert found.rows["group"].nunique() == 1


def test_a_setting_that_does_not_apply_is_a_value_like_any_other():
    """Adam beside momenta: no group vanishes, none takes the other's partner."""
    rows = grid(**{"train.momentum": (0.0, 0.9)})
    rows += grid(**{"train.optimizer": ("adam",), "train.momentum": (None,)})
    found = agrees(table(*rows))
    assert found.rows["group"].nunique() == 3
    assert "unknown" not in set(found.rows["regime"])
    assert found.rows["train.momentum"].isna().sum() == 3


def test_a_missing_half_leaves_the_partner_unknown():
    rows = grid(**{"train.lr": (0.1, 1.0)})
    rows += grid(kinds=("dynamical",), **{"train.lr": (9.0,)})
    rows += grid(kinds=("static",), **{"train.lr": (0.01,)})
    found = agrees(table(*rows))
    assert (found.rows["partner"] == -1).sum() == 2


def test_lost_jobs_are_counted_and_count():
    rows = grid(seeds=range(4))
    for number, outcome in ((1, "diverged"), (4, "failed"), (5, "diverged"), (9, "diverged")):
        rows[number] = job(
            rows[number]["loss.kind"],
            rows[number]["train.seed"],
            rows[number]["loss.amplitude"],
            outcome=outcome,
        )
    # Worse than chance it counts as it is; above it as chance.
    rows[1] |= {"train_accuracy": 0.1, "val_accuracy": 0.9}
    jobs = table(*rows)
    agrees(jobs)
    row = jobs[jobs["job"] == rows[1]["job"]]
    assert scores(row, "train_accuracy").item() == 0.1
    assert scores(row, "val_accuracy").item() == 1 / CLASSES
    assert scores(row, "val_loss").isna().all()


def test_a_cell_all_of_whose_jobs_are_lost_is_there_without_a_value():
    rows = [*grid(amplitudes=(3,)), *(job("dynamical", s, 50, outcome="failed") for s in range(3))]
    found = agrees(table(*rows))
    assert found.rows["failed"].tolist() == [0, 0, 3]
    assert len(ranked(found.rows, "val_accuracy")) == 2


def test_draws_zipped_with_seeds_are_the_replicates():
    rows = [one for s in range(5) for one in grid(seeds=(s,), **{"data.seed": (s + 7,)})]
    found = agrees(table(*rows))
    assert set(found.rows["val_accuracy:n"]) == {5}


def test_of_draws_crossed_with_seeds_the_draw_is_the_replicate():
    rows = grid(seeds=range(4), **{"data.seed": (0, 1, 2)})
    rows[5] |= {"outcome": "diverged"}
    found = agrees(table(*rows))
    assert set(found.rows["jobs"]) == {12}
    assert set(found.rows["val_accuracy:n"]) == {3}
    assert found.rows.loc[~found.rows["static"], "val_accuracy:pairs"].tolist() == [3, 3]


def test_draws_that_are_whole_replicates_of_unequal_size():
    rows = [
        *grid(seeds=range(3), **{"data.seed": (0,)}),
        *grid(seeds=(9,), **{"data.seed": (1, 2)}),
    ]
    assert set(agrees(table(*rows)).rows["val_accuracy:n"]) == {3}


def test_data_without_a_draw():
    rows = grid(**{"data.seed": (None,)})
    found = agrees(table(*rows))
    assert set(found.rows["val_accuracy:n"]) == {3}
    assert found.rows.loc[~found.rows["static"], "val_accuracy:pairs"].tolist() == [3, 3]


def test_a_job_of_two_runs_counts_once():
    rows = grid()
    found = agrees(table(*rows))
    twice = gather(pd.concat([table(*rows), table(*rows)]), METRICS)
    pd.testing.assert_frame_equal(found.rows, twice.rows)
    assert twice.of_job.index.is_unique


def test_regime_is_that_of_the_static_partner():
    rows = [
        *(job("static", s, train_accuracy=0.98 + s / 100, **{"train.lr": 1.0}) for s in range(3)),
        *(job("static", s, train_accuracy=0.5, **{"train.lr": 9.0}) for s in range(3)),
        *grid(kinds=("dynamical",), **{"train.lr": (1.0, 9.0)}),
    ]
    found = agrees(table(*rows))
    assert found.rows.groupby("train.lr")["regime"].unique().map(list).to_dict() == {
        1.0: ["overparameterised"],
        9.0: ["underparameterised"],
    }
    high = gather(table(*rows), threshold=0.995)
    assert set(high.rows["regime"]) == {"underparameterised"}


def test_files_are_known_by_their_content():
    """Two names of one file are one cell; one name of two files is two."""
    rows = [job(seed=s, **{"data.path": f"{s}.csv", "data.digest": "ab"}) for s in range(3)]
    assert len(agrees(table(*rows)).rows) == 1
    rows = [job(seed=0, **{"data.path": "a.csv", "data.digest": d}) for d in ("ab", "cd")]
    assert len(agrees(table(*rows)).rows) == 2


def scored(*cells):
    """Tilted cells of two jobs each: (amplitude, (value, outcome), (value, outcome))."""
    rows = [
        job("dynamical", seed, amplitude, outcome=outcome, val_accuracy=value, val_loss=value)
        for amplitude, *two in cells
        for seed, (value, outcome) in enumerate(two)
    ]
    return gather(table(*rows), ("val_accuracy", "val_loss")).rows


DONE, LOST, BROKEN = "completed", "diverged", "failed"


@pytest.mark.parametrize(
    ("cells", "by_accuracy", "by_loss"),
    [
        pytest.param(
            [(3, (0.6, DONE), (0.7, DONE)), (9, (0.8, DONE), (0.6, DONE))],
            [9, 3],
            [3, 9],
            id="mean",
        ),
        pytest.param(
            [(3, (0.1, DONE), (0.7, DONE)), (9, (0.7, DONE), (0.1, DONE))], [3, 9], [3, 9], id="tie"
        ),
        pytest.param(
            [(3, (1.0, DONE), (0.9, LOST)), (9, (0.4, DONE), (0.4, DONE))],
            [9, 3],
            [9, 3],
            id="whole before lost",
        ),
        pytest.param(
            [(3, (0.9, LOST), (0.9, LOST)), (9, (1.0, DONE), (0.9, LOST))],
            [9, 3],
            [9],
            id="lost ones by what they count",
        ),
        pytest.param(
            [(3, (1.0, DONE), (0.0, BROKEN)), (9, (0.3, DONE), (0.3, DONE))],
            [9, 3],
            [9, 3],
            id="failed",
        ),
    ],
)
def test_the_best_comes_first(cells, by_accuracy, by_loss):
    rows = scored(*cells)
    assert ranked(rows, "val_accuracy")["loss.amplitude"].tolist() == by_accuracy
    assert ranked(rows, "val_loss")["loss.amplitude"].tolist() == by_loss
    assert rows.loc[best(rows, "val_accuracy"), "loss.amplitude"] == by_accuracy[0]


def test_by_a_loss_fewer_lost_come_first_where_none_is_whole():
    rows = [
        job("dynamical", s, a, outcome=outcome, val_loss=loss)
        for a, loss, outcomes in ((3, 0.1, (DONE, LOST, LOST)), (9, 0.5, (DONE, DONE, LOST)))
        for s, outcome in enumerate(outcomes)
    ]
    found = gather(table(*rows), ["val_loss"]).rows
    assert ranked(found, "val_loss")["loss.amplitude"].tolist() == [9, 3]


def test_equal_means_are_equal_whatever_the_order_of_their_jobs():
    """0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1 in floating point; the first in order still wins."""
    thirds = [n / 300 for n in (101, 211, 299, 107, 33)]
    for shuffled in itertools.islice(itertools.permutations(thirds), 40):
        rows = [job("dynamical", s, 3, val_accuracy=v) for s, v in enumerate(shuffled)]
        rows += [job("dynamical", s, 9, val_accuracy=v) for s, v in enumerate(thirds)]
        found = gather(table(*rows), ["val_accuracy"]).rows
        assert found.loc[best(found, "val_accuracy"), "loss.amplitude"] == 3


def test_no_value_no_best():
    jobs = table(*(row | {"val_accuracy": None} for row in grid()))
    assert best(gather(jobs, ["val_accuracy"]).rows, "val_accuracy") is None
    assert choosing_metric(jobs) == "train_accuracy"
    assert choosing_metric(table(*grid())) == "val_accuracy"


def random_jobs(seed):
    """A random grid: some axes, some jobs missing, some lost."""
    rng = np.random.default_rng(seed)
    axes = {
        "train.lr": (0.1, 1.0, 3.0),
        "model.width": (3, 30),
        "loss.base": ("cross_entropy", "mse"),
        "data.seed": (0, 1, 2),
        "train.momentum": (0.0, 0.9, None),
    }
    names = rng.choice(list(axes), rng.integers(0, 3), replace=False)
    kinds = [("static", "dynamical"), ("dynamical",), ("static",)][rng.choice(3, p=[0.8, 0.1, 0.1])]
    rows = grid(range(rng.integers(1, 5)), kinds=kinds, **{name: axes[name] for name in names})
    kept = [row for row in rows if rng.random() < 0.85] or rows[:1]
    ended = rng.choice([DONE, LOST, BROKEN], len(kept), p=[0.85, 0.1, 0.05])
    for row, outcome in zip(kept, ended, strict=True):
        row["outcome"] = str(outcome)
        if outcome == BROKEN:
            row |= {name: None for name in row if name.endswith(("_accuracy", "_loss"))}
    order = rng.permutation(len(kept))
    return table(*(kept[i] for i in order))


@pytest.mark.parametrize("seed", range(60))
def test_random_grids(seed):
    agrees(random_jobs(seed))


def test_a_hundred_thousand_jobs():
    """The numbers of one cell among twenty thousand."""
    amplitudes, widths, seeds = 2000, 10, 5
    a, w, s = (
        axis.ravel()
        for axis in np.meshgrid(
            np.arange(amplitudes) + 1.5, np.arange(widths) + 1, np.arange(seeds), indexing="ij"
        )
    )
    rng = np.random.default_rng(0)
    jobs = pd.DataFrame([job("dynamical", 0, 3.0)]).loc[np.zeros(len(a), int)]
    jobs = jobs.assign(**{"loss.amplitude": a, "model.width": w, "train.seed": s})
    jobs = jobs.assign(job=[str(n) for n in range(len(a))], val_accuracy=rng.random(len(a)))
    jobs = jobs.reset_index(drop=True)
    found = gather(jobs, ["val_accuracy"])
    assert len(found.rows) == amplitudes * widths
    own = jobs[(jobs["loss.amplitude"] == 77.5) & (jobs["model.width"] == 4)]
    row = found.rows.loc[found.of_job[own["job"].iloc[0]]]
    assert row["val_accuracy:mean"] == pytest.approx(own["val_accuracy"].mean())
    assert (row["jobs"], row["val_accuracy:n"]) == (seeds, seeds)


def test_records_keep_whole_numbers_beside_full_batches():
    """A column with gaps holds floats; 50 samples are no 50.0 to who reads the JSON."""
    jobs = pd.DataFrame(
        [job(seed=s, **{"train.batch_size": b}) for b in (50, None) for s in (0, 1)]
    )
    sizes = [one["settings"]["train.batch_size"] for one in cell_records(gather(jobs))]
    assert sizes == [50, None] and isinstance(sizes[0], int)
