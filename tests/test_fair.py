"""Tuned methods against each other: what is compared with what, and how often chance decides."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tiltcli.evaluation.tuning import Question, contests, tune
from tiltcli.reports.methods import in_words
from tiltcli.statistics import decided, holm, mean_interval, permutation_tests

METHODS = ["loss.kind", "loss.groups", "train.optimizer"]
USUAL = {
    "outcome": "completed",
    "model.kind": "mlp",
    "data.kind": "spiral",
    "labels": "[0, 1, 2]",
    "parameters": 21,
    "train_samples": 300,
    "seconds": 1.0,
}


def table(effects, replicates=10, spread=0.01):
    """Jobs of cells (width, kind, groups, optimizer, lr) with given mean accuracies."""
    rng = np.random.default_rng(5)
    shared = rng.normal(0, 0.05, replicates)
    rows = []
    for number, ((width, kind, groups, optimizer, rate), mean) in enumerate(effects.items()):
        for k in range(replicates):
            accuracy = {
                f"{part}_accuracy": mean + shared[k] + rng.normal(0, spread)
                for part in ("train", "val", "test")
            }
            rows.append(
                {
                    **USUAL,
                    **accuracy,
                    "job": f"{number}-{k}",
                    "model.width": width,
                    "loss.kind": kind,
                    "loss.groups": groups,
                    "loss.amplitude": None if kind == "static" else 5.0,
                    "loss.period": None if kind == "static" else 10,
                    "train.optimizer": optimizer,
                    "train.lr": rate,
                    "train.seed": 100 + k,
                    "data.seed": 100 + 3 * k,
                }
            )
    return pd.DataFrame(rows)


EFFECTS = {
    (3, "static", None, "sgd", 0.1): 0.60,
    (3, "static", None, "sgd", 1.0): 0.70,
    (3, "static", None, "adam", 0.1): 0.75,
    (3, "dynamical", "class", "sgd", 0.1): 0.68,
    (3, "dynamical", "random", "sgd", 1.0): 0.66,
    (3, "dynamical", "class", "adam", 0.1): 0.80,
    (9, "static", None, "sgd", 1.0): 0.90,
    (9, "dynamical", "class", "sgd", 1.0): 0.90,
}


@pytest.fixture(scope="module")
def judged():
    jobs = table(EFFECTS)
    tuning = tune(jobs, methods=METHODS, metrics=["test_accuracy"])
    return jobs, tuning, contests(tuning, jobs, "test_accuracy")


def of(found, question, width):
    return {
        (one.method, one.other): one
        for one in found
        if one.question is question and one.row == {"model.width": width}
    }


def mean_of(jobs, width, kind, groups, optimizer, rate):
    own = jobs[
        jobs["model.width"].eq(width)
        & jobs["loss.kind"].eq(kind)
        & jobs["train.optimizer"].eq(optimizer)
        & jobs["train.lr"].eq(rate)
    ]
    own = own if groups is None else own[own["loss.groups"].eq(groups)]
    return own.set_index("train.seed")["test_accuracy"].sort_index()


def test_what_is_compared_with_what(judged):
    jobs, _, found = judged
    tuned = of(found, Question.TUNED, 3)
    assert set(tuned) == {("dynamical", "static"), ("dynamical, groups random", "static")}
    best = of(found, Question.BEST_STATIC, 3)
    assert {other for _, other in best} == {"static, optimizer adam"}
    assert set(of(found, Question.CLASS, 3)) == {("dynamical", "dynamical, groups random")}
    partners = of(found, Question.PARTNER, 3)
    assert {name for name, _ in partners} == {name for name, _ in best}
    # Numbers: plain pandas and scipy.
    cell = (3, "dynamical", "class", "sgd", 0.1)
    for one, other in (
        (tuned["dynamical", "static"], (3, "static", None, "sgd", 1.0)),
        (partners["dynamical", "static at dynamical's settings"], (3, "static", None, "sgd", 0.1)),
    ):
        d = mean_of(jobs, *cell) - mean_of(jobs, *other)
        assert one.difference.mean == pytest.approx(d.mean())
        low, high = stats.t.interval(0.95, 9, d.mean(), d.std(ddof=1) / np.sqrt(10))
        assert (one.difference.low, one.difference.high) == pytest.approx((low, high))
        exact = stats.permutation_test(
            (d,), np.mean, permutation_type="samples", n_resamples=np.inf
        )
        assert one.p == pytest.approx(exact.pvalue)
    corrected = holm([one.p for one in found if one.question is Question.TUNED])
    assert [one.p_corrected for one in found if one.question is Question.TUNED] == list(corrected)


def test_a_gain_of_the_rate_is_not_one_of_tilting(judged):
    """Worse than a tuned static loss, better than the static loss at its own rate."""
    _, _, found = judged
    assert of(found, Question.TUNED, 3)["dynamical", "static"].decided == -1
    partner = of(found, Question.PARTNER, 3)["dynamical", "static at dynamical's settings"]
    assert partner.decided == 1
    assert of(found, Question.CLASS, 3)["dynamical", "dynamical, groups random"].decided == 1
    assert of(found, Question.BEST_STATIC, 9)["dynamical", "static"].decided == 0


def test_in_plain_words(judged):
    _, tuning, found = judged
    small, large = in_words(tuning, found, "test_accuracy")
    assert small.startswith("At width 3: tilting (dynamical, optimizer adam) raises test accuracy")
    assert "over the best tuned static loss (static, optimizer adam)" in small
    assert "Of 1 control the classes in turn are shown to beat" in small
    assert large.startswith("At width 9: tilting is not shown to raise test accuracy")
    assert "n = 10" in large


def test_lost_jobs_are_said_and_count(judged):
    jobs, *_ = judged
    jobs = jobs.copy()
    hit = jobs["model.width"].eq(9) & jobs["loss.kind"].eq("dynamical") & jobs["train.seed"].lt(103)
    jobs.loc[hit, "outcome"] = "diverged"
    tuning = tune(jobs, methods=METHODS, metrics=["test_accuracy"])
    found = contests(tuning, jobs, "test_accuracy")
    one = of(found, Question.BEST_STATIC, 9)["dynamical", "static"]
    assert one.lost == (3, 0)
    assert one.difference.n == 10
    a, b = (
        mean_of(jobs, 9, "dynamical", "class", "sgd", 1.0),
        mean_of(jobs, 9, "static", None, "sgd", 1.0),
    )
    a = a.mask(a.index < 103, np.minimum(a, 1 / 3))
    assert one.difference.mean == pytest.approx((a - b).mean())


def _steps(draw):
    return np.round(draw * 300) / 300


NULLS = {
    "steps of 1/300": lambda rng, shape: _steps(rng.normal(0, 0.004, shape)),
    "skewed": lambda rng, shape: _steps(
        rng.exponential(0.02, shape) - rng.exponential(0.02, shape)
    ),
    "bimodal": lambda rng, shape: _steps(
        rng.choice([-1, 1], shape) * 0.2 * rng.integers(0, 2, shape) + rng.normal(0, 0.005, shape)
    ),
}


@pytest.mark.parametrize("name", NULLS)
def test_chance_decides_at_most_one_table_in_twenty(name):
    """No method differs: of tables with eleven rows at most 5% may say that any does."""
    rng = np.random.default_rng(11)
    tables, rows, n = 400, 11, 12
    draws = NULLS[name](rng, (tables, rows, n))
    wrong = 0
    for one in draws:
        estimates = [mean_interval(sample) for sample in one]
        p = holm(permutation_tests(list(one)))
        low, high = np.array([(e.low, e.high) for e in estimates]).T
        wrong += bool(np.any(decided(low, high, p, n)))
    # Of 400 tables at a true rate of 5% more than 33 are wrong once in a hundred times.
    assert wrong <= 33


def test_equal_replicates_decide_nothing():
    sample = [1 / 300] * 12
    one = mean_interval(sample)
    p = permutation_tests([sample])
    assert p[0] < 0.05
    assert decided(one.low, one.high, p, 12) == 0
    assert decided([0.1], [0.2], [0.01], [4]) == 0
    assert decided([0.1], [0.2], [0.01], [5]) == 1
