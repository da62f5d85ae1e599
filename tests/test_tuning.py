"""Methods tuned on validation before they are compared; what a budget can be expected to buy."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import tiltcli
from tiltcli.cli.main import load_commands
from tiltcli.cli.options import app
from tiltcli.errors import UserError
from tiltcli.evaluation.comparison import compare
from tiltcli.evaluation.tuning import at_edges, budgets, choice_weights, tune

load_commands()


def table():
    """Two widths; static at three rates, tilted at two rates and two amplitudes, four seeds."""
    rng = np.random.default_rng(1)
    cells = [
        (width, kind, rate, amplitude)
        for width in (3, 30)
        for kind, rate, amplitude in [
            ("static", 0.1, None),
            ("static", 1.0, None),
            ("static", 3.0, None),
            ("dynamical", 0.1, 5.0),
            ("dynamical", 1.0, 5.0),
            ("dynamical", 0.1, 9.0),
            ("dynamical", 1.0, 9.0),
        ]
    ]
    rows = [
        {
            "job": f"{number:03d}-{seed}",
            "outcome": "completed",
            "model.width": width,
            "model.kind": "mlp",
            "loss.kind": kind,
            "loss.amplitude": amplitude,
            "loss.period": None if amplitude is None else 10,
            "train.lr": rate,
            "train.seed": seed,
            "data.seed": 0,
            "data.kind": "spiral",
            "labels": "[0, 1, 2]",
            "parameters": 6 * width + 3,
            "train_samples": 300,
            "seconds": 0.5,
            "train_accuracy": rng.uniform(0.5, 1),
            "val_accuracy": rng.uniform(0.5, 1),
            "test_accuracy": rng.uniform(0.5, 1),
        }
        for number, (width, kind, rate, amplitude) in enumerate(cells)
        for seed in range(4)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("n", range(1, 8))
def test_chance_of_being_chosen_is_that_of_all_draws(n):
    weights = choice_weights(n)
    for k in range(1, n + 1):
        draws = list(combinations(range(n), k))
        share = [sum(min(draw) == i for draw in draws) / len(draws) for i in range(n)]
        np.testing.assert_allclose(weights[k - 1], share, atol=1e-12)


def test_many_cells_are_no_trouble():
    weights = choice_weights(2000)
    assert np.isfinite(weights).all()
    np.testing.assert_allclose(weights[0], 1 / 2000)
    assert weights[-1, 0] == pytest.approx(1)


def test_each_method_is_represented_by_the_cell_that_validation_likes_best():
    jobs = table()
    found = tune(jobs, "val_accuracy", metrics=["test_accuracy"])
    assert found.by == ("model.width",)
    seen = {}
    for one in found.candidates:
        own = jobs[jobs["model.width"].eq(one.row["model.width"]) & jobs["loss.kind"].eq(one.name)]
        means = own.groupby(["train.lr", "loss.amplitude"], dropna=False)["val_accuracy"].mean()
        rate, amplitude = means.idxmax()
        chosen = found.cells.rows.loc[one.chosen]
        assert chosen["train.lr"] == rate
        assert chosen["val_accuracy:mean"] == pytest.approx(means.max())
        assert len(one.cells) == len(means)
        assert one.core_seconds == pytest.approx(0.5 * len(own))
        if one.name == "static":
            assert one.partner is None
        else:
            assert chosen["loss.amplitude"] == amplitude
            partner = found.cells.rows.loc[one.partner]
            assert partner["static"]
            assert partner["train.lr"] == rate
            assert partner["model.width"] == one.row["model.width"]
        seen[one.row["model.width"], one.name] = one
    assert set(seen) == {(w, k) for w in (3, 30) for k in ("static", "dynamical")}


def test_other_methods_and_rows():
    jobs = table()
    found = tune(jobs, methods=["loss.kind", "loss.amplitude"], by=["model.width", "train.lr"])
    names = [one.name for one in found.candidates if one.row == {"model.width": 3, "train.lr": 0.1}]
    assert names == ["static", "dynamical, amplitude 5", "dynamical, amplitude 9"]
    assert [one.name for one in found.candidates if one.row["train.lr"] == 3.0] == ["static"] * 2


def test_what_cannot_be_asked_is_said_at_once():
    jobs = table()
    with pytest.raises(UserError) as error:
        tune(
            jobs,
            "val_acuracy",
            methods=["loss.shape", "data.kind", "train.seed"],
            by=["modle.width"],
        )
    said = [str(fault) for fault in error.value.faults]
    assert len(said) == 5
    assert "no setting loss.shape" in said[0]
    assert "data.kind does not vary" in said[1]
    assert "vary here: loss.kind, model.width, train.lr, loss.amplitude" in said[1]
    assert "only repeats" in said[2]
    assert "did you mean model.width?" in said[3]
    assert "val_accuracy" in said[4]


def test_budget_is_the_mean_over_all_draws_of_cells():
    jobs = table()
    tuning = tune(jobs)
    for one in budgets(tuning, jobs):
        own = jobs[
            jobs["job"].isin([j for c in one.candidate.cells for j in tuning.cells.jobs_of(c)])
        ]
        cells = [g for _, g in own.groupby(["train.lr", "loss.amplitude"], dropna=False)]
        val = [g["val_accuracy"].mean() for g in cells]
        test = np.array([g.sort_values("train.seed")["test_accuracy"].to_numpy() for g in cells])
        for k in range(1, len(one.expected) + 1):
            picked = [max(draw, key=val.__getitem__) for draw in combinations(range(len(cells)), k)]
            per_seed = test[picked].mean(axis=0)
            assert one.expected[k - 1].mean == pytest.approx(per_seed.mean())
            half = 3.182446305284263 * per_seed.std(ddof=1) / 2  # t(0.975, 3) / √4
            assert one.expected[k - 1].high - one.expected[k - 1].mean == pytest.approx(half)
        assert one.replicates == 4


def test_a_cell_that_lost_a_job_is_chosen_only_where_none_is_whole():
    jobs = table()
    first = tune(jobs).candidates[0]
    lost = tune(jobs).cells.jobs_of(first.chosen)[0]
    jobs.loc[jobs["job"] == lost, "outcome"] = "diverged"
    second = tune(jobs).candidates[0]
    assert second.chosen != first.chosen


def test_of_a_halving_only_the_last_round_is_chosen_from():
    jobs = table()
    best_of_few = jobs["train.lr"].eq(3.0) & jobs["loss.kind"].eq("static")
    jobs.loc[best_of_few, "val_accuracy"] = 1.0
    more = jobs[~best_of_few].assign(
        job=lambda t: "more-" + t["job"], **{"train.seed": lambda t: t["train.seed"] + 4}
    )
    found = tune(
        pd.concat(
            [
                jobs,
                more,
                more.assign(
                    job=lambda t: "again-" + t["job"],
                    **{"train.seed": lambda t: t["train.seed"] + 4},
                ),
            ],
            ignore_index=True,
        )
    )
    for one in found.candidates:
        assert found.cells.rows.loc[one.chosen, "train.lr"] != 3.0
    assert all(
        tune(jobs).cells.rows.loc[one.chosen, "train.lr"] == 3.0
        for one in tune(jobs).candidates
        if one.name == "static"
    )


def test_a_chosen_number_at_the_edge_of_those_tried_is_said():
    jobs = table()
    static = jobs["loss.kind"].eq("static")
    jobs.loc[static, "val_accuracy"] = jobs.loc[static, "train.lr"] / 10
    found = tune(jobs)
    for one in found.candidates:  # of two values tried either is an edge, so neither is said
        assert at_edges(found, one) == (["train.lr"] if one.name == "static" else [])


@pytest.mark.parametrize("metric", ["val_accuracy", "train_accuracy"])
def test_both_sides_of_a_comparison_are_tuned(metric):
    jobs = table()
    jobs["loss.groups"] = np.where(jobs["loss.kind"].eq("static"), None, "class")
    random = jobs[jobs["loss.kind"].eq("dynamical")].copy()
    random["job"] += "r"
    random["loss.groups"] = "random"
    random["val_accuracy"] = np.random.default_rng(2).uniform(0.5, 1, len(random))
    jobs = pd.concat([jobs, random], ignore_index=True)
    static = jobs["loss.kind"].eq("static")
    found = compare(
        jobs[static],
        jobs[~static],
        name_a="s",
        name_b="d",
        baseline=jobs,
        tune=metric,
        methods=["loss.kind", "loss.groups"],
        metrics=["test_accuracy"],
    )
    assert len(found.rows) == 4
    for _, row in found.rows.iterrows():
        at = jobs[jobs["model.width"] == row["model.width"]]
        sides = at[at["loss.kind"] == "static"], at[at["loss.groups"] == row["loss.groups"]]
        cells = []
        for side, letter in zip(sides, "ab", strict=True):
            by = ["train.lr", *(["loss.amplitude"] if letter == "b" else [])]
            own = {key: g.set_index("train.seed") for key, g in side.groupby(by)}
            chosen = max(own, key=lambda key: own[key][metric].mean())
            assert row[f"tried_{letter}"] == len(own)
            assert row[f"{letter}:train.lr"] == chosen[0]
            cells.append(own[chosen]["test_accuracy"])
        assert row["b:loss.amplitude"] == chosen[1]
        assert row["difference"] == pytest.approx((cells[1] - cells[0]).mean())
        partner = at[at["loss.kind"].eq("static") & at["train.lr"].eq(chosen[0])]
        from_partner = (cells[1] - partner.set_index("train.seed")["test_accuracy"]).mean()
        assert row["partner_difference"] == pytest.approx(from_partner)
        assert row["partner_n"] == 4


def test_the_static_partner_is_met_on_the_replicates_that_were_asked_for():
    jobs = table()
    static = jobs["loss.kind"].eq("static")
    some = jobs[~static & jobs["train.seed"].lt(2)]
    sides = {"name_a": "s", "name_b": "d", "baseline": jobs, "metrics": ["test_accuracy"]}
    for _, row in compare(jobs[static], some, tune="val_accuracy", **sides).rows.iterrows():
        keys = {"model.width": row["model.width"], "train.lr": row["b:train.lr"]}
        own = some[some["loss.amplitude"].eq(row["b:loss.amplitude"])]
        of_both = [
            side[(side[list(keys)] == pd.Series(keys)).all(axis=1)].set_index("train.seed")
            for side in (jobs[static], own)
        ]
        due = (of_both[1]["test_accuracy"] - of_both[0]["test_accuracy"]).dropna()
        assert (row["partner_n"], row["n"]) == (2, 2)
        assert row["partner_difference"] == pytest.approx(due.mean())


def test_what_cannot_be_tuned_is_said():
    jobs = table()
    static = jobs["loss.kind"].eq("static")
    sides = {"name_a": "s", "name_b": "d", "baseline": jobs}
    with pytest.raises(UserError, match=r"loss.groups.*vary here: loss.kind"):
        compare(jobs[static], jobs[~static], tune="val_accuracy", methods=["loss.groups"], **sides)
    jobs.loc[static, "val_accuracy"] = np.nan
    with pytest.raises(UserError, match="no val_accuracy"):
        compare(jobs[static], jobs[~static], tune="val_accuracy", **sides)


def test_the_command_draws_budgets(tmp_path, monkeypatch):
    from helpers import GRID, write_grid

    tiltcli.sweep(write_grid(tmp_path, GRID), results=tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    for words in ([], ["--methods", "loss.kind,loss.amplitude", "--metric", "val_accuracy"]):
        shown = runner.invoke(app, ["plot", "budget", "grid", "-o", "b.png", *words])
        assert shown.exit_code == 0, shown.output
        assert (tmp_path / "b.png").read_bytes()[1:4] == b"PNG"
    wrong = runner.invoke(app, ["plot", "budget", "grid", "--by", "loss.amplitud"])
    assert "did you mean loss.amplitude?" in str(wrong.exception)
