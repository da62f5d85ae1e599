"""What is compared with what: axes that nobody shipped, shared jobs, lost jobs, draws of data."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

import tiltcli
from helpers import GRID, tilt, write_grid
from test_cells import CLASSES, Oracle, grid, job, plain, random_jobs, table
from tiltcli.errors import UserError
from tiltcli.evaluation.claims import accuracy_claims
from tiltcli.evaluation.comparison import compare

METRICS = ("train_accuracy", "val_accuracy", "test_accuracy")


def of(jobs, **settings):
    """Rows with these values; `loss__kind` stands for loss.kind."""
    for name, value in settings.items():
        jobs = jobs[jobs[name.replace("__", ".")].eq(value)]
    return jobs


def run(a, b, *more, **options):
    baseline = pd.concat([a, b, *more])
    return compare(a, b, name_a="A", name_b="B", baseline=baseline, **options)


def kinds(jobs, **options):
    return run(of(jobs, loss__kind="static"), of(jobs, loss__kind="dynamical"), **options)


def one(found, metric="val_accuracy", **settings):
    rows = found.rows[found.rows["metric"] == metric]
    (row,) = of(rows, **settings).to_dict("records")
    return row


@pytest.mark.parametrize("seed", range(40))
def test_static_against_tilted_is_the_change_of_every_cell(seed):
    jobs = random_jobs(seed)
    oracle = Oracle(jobs)
    due = {
        settings: partner
        for settings in oracle.cells
        if dict(settings)["loss.kind"] == "dynamical" and (partner := oracle.partner(settings))
    }
    changes = {(s, m): oracle.change(s, m) for s in due for m in METRICS}
    try:
        found = kinds(jobs)
    except UserError:
        assert all(math.isnan(mean) for mean, *_ in changes.values()) or not all(
            (jobs["loss.kind"].eq(kind) & jobs["outcome"].eq("completed")).any()
            for kind in ("static", "dynamical")
        )
        return
    shown = []
    for row in found.rows.to_dict("records"):
        named = {k: plain(row[k]) for k in (*found.groups, *found.cells)}
        named = {k: None if v is pd.NA else v for k, v in named.items()}
        (settings,) = (s for s in due if all(dict(s)[k] == v for k, v in named.items()))
        mean, low, high, n = changes[settings, row["metric"]]
        np.testing.assert_allclose(
            [row["difference"], row["low"], row["high"], row["n"]], [mean, low, high, n], atol=1e-12
        )
        assert row["regime"] == oracle.regime(settings)
        for letter, cell in (("a", due[settings]), ("b", settings)):
            lost = sum(j["outcome"] != "completed" for j in oracle.cells[cell])
            assert row[f"lost_{letter}"] == lost
        shown.append((settings, row["metric"]))
    assert len(set(shown)) == len(shown)
    assert set(shown) >= {key for key, (_, _, _, n) in changes.items() if n}


@pytest.mark.parametrize(
    ("setting", "a", "b"),
    [
        ("model.width", 3, 30),
        ("train.lr", 0.1, 1.0),
        ("loss.base", "cross_entropy", "mse"),
        ("data.noise", 0.1, 0.2),
    ],
)
def test_any_setting_can_be_what_is_compared(setting, a, b):
    jobs = table(*grid(**{setting: (a, b)}))
    found = run(jobs[jobs[setting] == a], jobs[jobs[setting] == b])
    shown = [f"{v:g}" if isinstance(v, float) else str(v) for v in (a, b)]
    assert f"compared: {setting}: {shown[0]} → {shown[1]}" in found.notes
    assert setting not in found.groups
    assert len(found.rows) == 3 * len(METRICS)  # static and two amplitudes
    for row in found.rows.to_dict("records"):
        same = of(jobs, loss__kind=row["loss.kind"])
        if row["loss.kind"] == "dynamical":
            same = of(same, loss__amplitude=row["loss.amplitude"])
        means = [same.loc[same[setting] == v, row["metric"]].mean() for v in (a, b)]
        assert [row["mean_a"], row["mean_b"]] == pytest.approx(means)


def test_jobs_are_not_compared_with_themselves():
    jobs = table(*grid())
    with pytest.raises(UserError, match="all 6 jobs of B are jobs of A as well") as error:
        run(jobs, of(jobs, loss__kind="dynamical"))
    assert "themselves" in str(error.value)
    with pytest.raises(UserError, match="are the same jobs"):
        run(jobs, jobs)


def test_jobs_that_both_sides_have_are_left_out():
    """Two runs that differ in the shape share their static jobs: these say nothing."""
    shared = grid(kinds=("static",))
    sines = grid(kinds=("dynamical",), **{"loss.shape": ("sine",)})
    found = run(table(*shared, *grid(kinds=("dynamical",))), table(*shared, *sines))
    assert found.groups == ("model.width", "loss.amplitude")
    assert len(found.rows) == 2 * len(METRICS)
    assert (found.rows["difference"] != 0).all()
    assert set(found.rows["regime"]) == {"underparameterised"}  # they decide that all the same
    assert "compared: loss.shape: triangle → sine" in found.notes
    assert any(note.startswith("3 jobs of A and B are the same jobs") for note in found.notes)


def test_the_best_of_each_side_for_each_row():
    """Amplitudes on both sides are not paired on where each side's best is asked for."""
    jobs = table(*grid(amplitudes=(3, 10, 30), **{"train.lr": (0.1, 1.0), "model.width": (3, 9)}))
    tilted = of(jobs, loss__kind="dynamical")
    found = run(of(tilted, train__lr=0.1), of(tilted, train__lr=1.0), best="val_accuracy")
    assert found.cells == ("a:loss.amplitude", "b:loss.amplitude")
    assert len(found.rows) == 2 * len(METRICS)
    for row in found.rows.to_dict("records"):
        for letter, rate in (("a", 0.1), ("b", 1.0)):
            own = of(tilted, train__lr=rate, model__width=row["model.width"])
            means = own.groupby("loss.amplitude")["val_accuracy"].mean()
            assert row[f"{letter}:loss.amplitude"] == means.idxmax()
            chosen = own[own["loss.amplitude"] == means.idxmax()]
            assert row[f"mean_{letter}"] == pytest.approx(chosen[row["metric"]].mean())


def test_the_best_lost_nothing_where_another_did_not():
    """The cell that lost three of four would lead by the one that is left."""
    rows = [job("static", s) for s in range(4)]
    rows += [job("dynamical", s, 3, val_accuracy=0.6) for s in range(4)]
    rows += [job("dynamical", 0, 9, val_accuracy=0.95)]
    rows += [job("dynamical", s, 9, val_accuracy=0.95, outcome="diverged") for s in (1, 2, 3)]
    found = kinds(table(*rows), best="val_accuracy")
    assert set(found.rows["loss.amplitude"]) == {3}
    both = kinds(table(*rows))
    assert both.rows["loss.amplitude"].tolist() == [3] * 3 + [9] * 3
    assert one(both, loss__amplitude=9)["lost_b"] == 3
    counted = (0.95 + 3 / CLASSES) / 4
    assert one(both, loss__amplitude=9)["mean_b"] == pytest.approx(counted)


def test_a_momentum_that_does_not_apply_is_a_row_like_any_other():
    rows = grid(**{"train.momentum": (0.0, 0.9)})
    rows += grid(**{"train.optimizer": ("adam",), "train.momentum": (None,)})
    for best in (None, "val_accuracy"):
        found = kinds(table(*rows), best=best)
        assert found.groups == ("model.width", "train.optimizer", "train.momentum")
        assert set(found.rows["regime"]) == {"underparameterised"}
        assert found.rows["train.optimizer"].value_counts()["adam"] == (2 if not best else 1) * 3
    adam = one(found, train__optimizer="adam")
    assert pd.isna(adam["train.momentum"])


def test_regimes_are_those_of_the_rows_own_static_cells():
    rows = [
        *(job("static", s, train_accuracy=1.0, **{"train.lr": 0.1}) for s in range(3)),
        *(job("static", s, train_accuracy=0.5, **{"train.lr": 1.0}) for s in range(3)),
        *grid(kinds=("dynamical",), **{"train.lr": (0.1, 1.0)}),
    ]
    jobs = table(*rows)
    found = kinds(jobs)
    assert found.rows.groupby("train.lr")["regime"].first().to_dict() == {
        0.1: "overparameterised",
        1.0: "underparameterised",
    }
    tilted = of(jobs, loss__kind="dynamical")
    apart = run(of(tilted, train__lr=0.1), of(tilted, train__lr=1.0), jobs)
    assert set(apart.rows["regime"]) == {"unknown"}
    assert any("the static jobs of one side fit" in note for note in apart.notes)


def test_draws_crossed_with_seeds_count_once():
    jobs = table(*grid(seeds=range(4), amplitudes=(3,), **{"data.seed": (0, 1, 2)}))
    found = kinds(jobs)
    assert set(found.rows["n"]) == {3}
    assert any("n counts draws" in note for note in found.notes)
    wide = jobs.pivot_table(
        index=["data.seed", "train.seed"], columns="loss.kind", values="val_accuracy"
    )
    means = (wide["dynamical"] - wide["static"]).groupby("data.seed").mean()
    row = one(found)
    assert row["difference"] == pytest.approx(means.mean())
    half = 4.302652729911275 * means.std(ddof=1) / math.sqrt(3)
    assert row["high"] - row["difference"] == pytest.approx(half)
    signs = np.array(list(itertools.product((1, -1), repeat=3)))
    extreme = np.abs(signs @ means.to_numpy()) >= abs(means.sum()) - 1e-12
    assert row["p"] == extreme.mean()


def test_draws_zipped_with_seeds_are_pairs():
    rows = [r for s in range(6) for r in grid((s,), (3,), **{"data.seed": (s + 50,)})]
    assert set(kinds(table(*rows)).rows["n"]) == {6}


def test_by_a_loss_diverged_jobs_are_in_no_pair():
    rows = grid(seeds=range(5), amplitudes=(3,))
    rows[3]["outcome"] = "diverged"
    found = kinds(table(*rows), metrics=("val_accuracy", "val_loss"))
    assert one(found, "val_accuracy")["n"] == 5
    assert one(found, "val_loss")["n"] == 4
    assert one(found, "val_loss")["lost_b"] == 1
    assert any("1 of 5 jobs diverged; they count with" in note for note in found.notes)


def shifted(n, gain, spread=0.01, widths=(3,)):
    rng = np.random.default_rng(n)
    rows = []
    for width, seed in itertools.product(widths, range(n)):
        level = rng.uniform(0.4, 0.6)
        parts = {f"{part}_accuracy": level for part in ("train", "val", "test")}
        rows.append(job("static", seed, **{"model.width": width}, **parts))
        more = {name: value + gain + spread * rng.normal() for name, value in parts.items()}
        rows.append(job("dynamical", seed, 3, **{"model.width": width}, **more))
    return table(*rows)


def test_a_verdict_needs_both_and_the_row_says_what_it_takes():
    few = one(kinds(shifted(4, 0.2)))
    assert few["low"] > 0
    assert few["verdict"] == "undecided"
    assert (few["p"], few["p_least"]) == (0.125, 0.125)
    assert few["seeds_needed"] == 6
    assert few["seeds_for_power"] == 6
    enough = one(kinds(shifted(8, 0.2)))
    assert (enough["verdict"], enough["p"]) == ("higher", 2 / 2**8)
    assert one(kinds(shifted(8, -0.2)))["verdict"] == "lower"
    assert one(kinds(shifted(8, 0.2, spread=0)))["verdict"] == "undecided"
    # Of four rows, p of six pairs is at least 4 · 2/2⁶.
    four = kinds(shifted(6, 0.2, widths=(3, 5, 7, 9)))
    row = one(four, model__width=5)
    assert (row["p"], row["p_corrected"]) == (2 / 64, 8 / 64)
    assert (row["verdict"], row["seeds_needed"]) == ("undecided", 8)
    small = one(kinds(shifted(20, 0.002)))
    assert small["seeds_for_power"] > 20


def test_claims_go_by_every_setting_that_varies():
    """One amplitude for each width and two rates: no rate is averaged away."""
    jobs = table(*grid(range(6), (3,), **{"model.width": (3, 9), "train.lr": (0.1, 1.0)}))
    findings = accuracy_claims(kinds(jobs))
    each = [(width, rate) for width in (3, 9) for rate in (0.1, 1.0)]
    said = [f.measured.partition(" at ")[2] for f in findings]
    assert said == [f"width {width}, lr {rate:g}" for width, rate in each]
    for finding, (width, rate) in zip(findings, each, strict=True):
        wide = of(jobs, train__lr=rate, model__width=width).pivot_table(
            index="train.seed", columns="loss.kind", values="train_accuracy"
        )
        change = wide["dynamical"] - wide["static"]
        assert finding.estimate.mean == pytest.approx(change.mean())
        assert finding.estimate.n == 6


def test_claims_take_draws_for_what_they_are():
    jobs = table(*grid(range(4), (3,), **{"data.seed": (0, 1, 2)}))
    (finding,) = accuracy_claims(kinds(jobs))
    assert (finding.estimate.n, finding.sample) == (3, "draws of the data")


def test_claims_count_lost_jobs():
    rows = grid(range(6), (3,))
    for row in rows[1::2][:3]:
        row |= {"outcome": "diverged", "train_accuracy": 0.9}
    (finding,) = accuracy_claims(kinds(table(*rows)))
    assert finding.estimate.n == 6
    assert "3 jobs diverged or failed" in finding.measured


def test_learning_curves_are_of_the_pairs(tmp_path):
    """The second run differs by next to nothing, and has more seeds: they are in no pair."""
    text = GRID.replace('kind = ["static", "dynamical"]', 'kind = "static"')
    results = tmp_path / "results"
    tiltcli.sweep(write_grid(tmp_path, text, "few"), results=results)
    more = text.replace("seeds = 3", "seeds = 9\nweight_decay = 1e-30")
    tiltcli.sweep(write_grid(tmp_path, more, "many"), results=results)
    shown = tilt("compare", "few", "many", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.partition("mean over the pairs")[2].splitlines()[2:]
    assert len(lines) == 2
    for line in lines:
        _, a, b = line.rsplit(maxsplit=2)
        assert a == b
    assert "+0.0000 … +0.0000" in shown.stdout or "+0.000…+0.000" in shown.stdout
