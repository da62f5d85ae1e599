"""Pairs, rows, regimes and notes, on tables small enough to work out by hand; then the command."""

import json

import numpy as np
import pandas as pd
import pytest

import tiltcli
from helpers import tilt, write_grid
from tiltcli.cli.commands.compare import result_of
from tiltcli.cli.rendering import to_csv, to_json, to_markdown
from tiltcli.errors import UserError
from tiltcli.evaluation.claims import Verdict, accuracy_claims, verdict_of
from tiltcli.evaluation.comparison import compare
from tiltcli.statistics import Estimate


def job(kind, width, seed, train, test=0.5, amplitude=None, outcome="completed", **more):
    return {
        "job": f"{kind}-{width}-{seed}-{amplitude}-{more.get('train.lr', 1.0)}",
        "outcome": outcome,
        "data.kind": "spiral",
        "model.width": width,
        "loss.kind": kind,
        "loss.amplitude": amplitude,
        "loss.period": None if amplitude is None else 10,
        "train.lr": 1.0,
        "train.seed": seed,
        "parameters": 6 * width + 3,
        "train_samples": 300,
        "train_accuracy": train,
        "val_accuracy": test - 0.1,
        "test_accuracy": test,
    } | more


def sides(*jobs):
    frame = pd.DataFrame(jobs)
    frame["loss.amplitude"] = frame["loss.amplitude"].astype(float)
    return frame[frame["loss.kind"] == "static"], frame[frame["loss.kind"] == "dynamical"], frame


def run(*jobs, **options):
    a, b, whole = sides(*jobs)
    return compare(a, b, name_a="A", name_b="B", baseline=whole, **options)


PAIRS = [
    *(job("static", 10, s, 0.4 + s / 100, 0.30) for s in range(3)),
    *(job("dynamical", 10, s, 0.5 + s / 50, 0.35, 3) for s in range(3)),
    *(job("static", 300, s, 1.0, 0.90 + s / 100) for s in range(3)),
    *(job("dynamical", 300, s, 1.0, 0.95, 3) for s in range(3)),
]


def test_numbers_by_hand():
    found = run(*PAIRS)
    rows = found.rows.set_index(["model.width", "metric"])
    row = rows.loc[(10, "train_accuracy")]
    # Differences 0.10, 0.11, 0.12; t(0.975, 2) = 4.3027, s = 0.01.
    assert (row["n"], row["mean_a"], row["mean_b"]) == (3, pytest.approx(0.41), pytest.approx(0.52))
    assert row["difference"] == pytest.approx(0.11)
    assert row["high"] - row["difference"] == pytest.approx(4.3027 * 0.01 / np.sqrt(3), rel=1e-4)
    assert row["p"] == pytest.approx(2 / 8)
    assert row["p_corrected"] == pytest.approx(4 / 8)  # the other row's p is 1
    assert rows.loc[(300, "test_accuracy"), "difference"] == pytest.approx(0.04)
    assert rows.loc[(300, "train_accuracy"), ["low", "high", "p"]].tolist() == [0, 0, 1]
    assert rows["regime"].groupby("model.width").first().to_dict() == {
        10: "underparameterised",
        300: "overparameterised",
    }
    assert found.groups == ("model.width",)
    assert found.cells == ()


def test_threshold_decides_the_regime():
    assert set(run(*PAIRS, threshold=0.4).rows["regime"]) == {"overparameterised"}


def test_jobs_pair_on_the_seed_and_the_rest_is_said():
    found = run(*PAIRS, job("static", 10, 7, 0.9), job("dynamical", 10, 8, 0.1, amplitude=3))
    assert set(found.rows["n"]) == {3}
    said = " ".join(found.notes)
    assert "1 completed jobs of A have no partner" in said
    assert "1 completed jobs of B have no partner" in said


CELLS = [
    *(job("static", 10, s, 0.5) for s in range(2)),
    *(job("dynamical", 10, s, 0.6, 0.7, 3) for s in range(2)),
    *(job("dynamical", 10, s, 0.8, 0.6, 30) for s in range(2)),
]


def test_cells_best_first_and_best_alone():
    found = run(*CELLS)
    assert found.cells == ("loss.amplitude",)
    train = found.rows[found.rows["metric"] == "train_accuracy"]
    assert train["loss.amplitude"].tolist() == [3, 30]  # by validation, not by training accuracy
    assert "flattered by being the best" in " ".join(found.notes)
    best = run(*CELLS, best="train_accuracy")
    assert set(best.rows["loss.amplitude"]) == {30}
    assert "chosen by its mean train_accuracy" in " ".join(best.notes)
    assert best.rows["p_corrected"].tolist() == best.rows["p"].tolist()


def test_lost_jobs_are_counted_and_left_out():
    lost = [
        job("dynamical", 10, 5, 0.0, amplitude=3, outcome="diverged"),
        job("static", 10, 5, 0.0, outcome="failed"),
    ]
    found = run(*PAIRS, *lost)
    assert set(found.rows["n"]) == {3}
    said = " ".join(found.notes)
    assert "B: 1 of 7 jobs diverged" in said
    assert "A: 1 of 7 jobs failed" in said
    with pytest.raises(UserError, match="no completed job to compare"):
        run(PAIRS[0], lost[0])


def test_missing_metrics_are_missing():
    jobs = [one | {"val_accuracy": np.nan} for one in PAIRS]
    found = run(*jobs)
    rows = found.rows[found.rows["metric"] == "val_accuracy"]
    assert rows["n"].eq(0).all()
    assert rows["difference"].isna().all()
    assert "val_accuracy is missing" in " ".join(found.notes)
    assert "–" in to_markdown(result_of(found))


def test_no_baseline_is_said():
    a = pd.DataFrame([job("dynamical", 10, s, 0.5, amplitude=3) for s in range(2)])
    b = pd.DataFrame([job("dynamical", 10, s, 0.6, amplitude=9) for s in range(2)])
    found = compare(a, b, name_a="A", name_b="B", baseline=pd.concat([a, b]))
    assert set(found.rows["regime"]) == {"unknown"}
    assert "no static baseline at width 10" in " ".join(found.notes)
    assert "loss.amplitude: 3 → 9" in found.notes[0]


def test_other_settings_that_vary_make_rows():
    jobs = [one | {"train.lr": lr, "job": f"{one['job']}-{lr}"} for one in PAIRS for lr in (1, 2)]
    found = run(*jobs)
    assert found.groups == ("model.width", "train.lr")
    assert len(found.rows) == 4 * 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model.width": [77, 78]}, "no value in common of model.width"),
        ({"train.seed": [77, 78]}, "no value in common of train.seed (0, 1, 2 against 77, 78)"),
    ],
)
def test_nothing_to_pair_is_explained(change, said):
    a, _, whole = sides(*PAIRS)
    b = pd.DataFrame([job("dynamical", 10, s, 0.5, amplitude=3) for s in range(2)]).assign(**change)
    with pytest.raises(UserError) as error:
        compare(a, b, name_a="A", name_b="B", baseline=whole)
    assert said in str(error.value)


def test_a_run_with_itself_is_refused():
    a, _, whole = sides(*PAIRS)
    with pytest.raises(UserError, match="are the same jobs"):
        compare(a, a, name_a="A", name_b="A", baseline=whole)


def test_forms():
    comparison = run(*CELLS)
    found = result_of(comparison)
    page = json.loads(to_json(found))
    assert (page["format"], page["command"]) == (1, "compare")
    assert page["rows"][0]["loss.amplitude"] == 3
    assert len(page["rows"]) == len(to_csv(found).splitlines()) - 1 == 6
    assert to_csv(found).splitlines()[0].split(",") == list(comparison.rows.columns)
    assert to_markdown(found).count("| under |") == 6


def test_claims_are_judged_at_each_width():
    _, _, whole = sides(
        *PAIRS,
        *(job("static", 30, s, 0.6) for s in range(3)),
        *(job("dynamical", 30, s, 0.6 - 0.02 * s, 0.5, 3) for s in range(3)),
    )
    found = accuracy_claims(run(*whole.to_dict("records")))
    assert [one.measured.rpartition(" ")[2] for one in found] == ["10", "30", "300"]
    # By seed 0.10, 0.11, 0.12; 0, −0.02, −0.04; and at width 300 as in `sides`.
    np.testing.assert_allclose([one.estimate.mean for one in found], [0.11, -0.02, 0.04])
    assert {one.estimate.n for one in found} == {3}
    # Three replicates decide nothing.
    assert {one.verdict for one in found} == {Verdict.INCONCLUSIVE}
    assert [one.claim[:5] for one in found] == ["Under", "Under", "Overp"]


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.1, 0.2, "held"),
        (-0.1, 0.2, "inconclusive"),
        (0.0, 0.2, "inconclusive"),
        (-0.2, -0.1, "not held"),
        (0.0, 0.0, "inconclusive"),
        (0.1, 0.1, "inconclusive"),
        (np.nan, np.nan, "inconclusive"),
    ],
)
def test_a_verdict_never_outruns_its_interval(low, high, verdict):
    assert verdict_of(Estimate((low + high) / 2, low, high, 9), 0.01) == verdict
    assert verdict_of(Estimate((low + high) / 2, low, high, 9), 0.05) == "inconclusive"
    assert verdict_of(Estimate((low + high) / 2, low, high, 4), 0.01) == "inconclusive"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("compare")
    tiltcli.sweep(write_grid(path), results=path / "results")
    return path


A, B = "grid@loss.kind=static", "grid@loss.kind=dynamical"


def test_command(folder):
    shown = tilt("compare", A, B, cwd=folder)
    assert shown.returncode == 0, shown.stderr
    assert "under (underparameterised) where static training ends below 0.99" in shown.stderr
    assert "params/P: parameters by training samples" in shown.stderr
    assert "train_accuracy" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 100
    page = json.loads(tilt("compare", A, B, "--format", "json", cwd=folder).stdout)
    assert {row["n"] for row in page["rows"]} == {3}
    assert len(page["rows"]) == 2 * 2 * 3  # widths × amplitudes × metrics
    narrow = tilt(
        *("compare", A, B, "--where", "model.width == 4", "--metric", "test_loss"),
        *("--format", "csv", "--plot", "f.svg"),
        cwd=folder,
    )
    assert len(narrow.stdout.splitlines()) == 3
    assert "note: compared: loss.kind" in narrow.stderr
    assert (folder / "f.svg").read_text().startswith("<?xml")
    same = tiltcli.compare(A, B, results=folder / "results", best="val_accuracy")
    assert len(same.rows) == 2 * 3


def test_a_condition_on_what_one_side_has_narrows_that_side(folder):
    found = tiltcli.compare(
        A, B, results=folder / "results", where=["loss.amplitude == 10", "model.width == 4"]
    )
    whole = tiltcli.compare(A, B, results=folder / "results", where=["model.width == 4"])
    of_ten = whole.rows[whole.rows["loss.amplitude"] == 10]
    columns = ["metric", "n", "mean_a", "mean_b", "difference"]
    pd.testing.assert_frame_equal(
        found.rows[columns], of_ten[columns].reset_index(drop=True), check_dtype=False
    )
    assert f"does not apply to the jobs of {A}" in found.notes[0]
    with pytest.raises(UserError, match="does not apply"):
        tiltcli.compare(A, A, results=folder / "results", where=["loss.amplitude == 10"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nope", B], "no run 'nope'"),
        (["nope", "nil"], "no run 'nil'"),
        (["grd", B], "did you mean grid"),
        ([A, A], "are the same jobs"),
        (["grid@loss.knd=static", B], "did you mean loss.kind"),
        ([A, B, "--metric", "train_acuracy"], "did you mean train_accuracy"),
        ([A, B, "--best", "speed"], "no column speed"),
        ([A, B, "--format", "yaml"], "allowed: table, json, csv, markdown"),
        ([A, B, "--where", "model.width == 5"], "no job meets"),
        ([A, B, "--plot", "f.gif"], "ends in one of .png, .svg, .pdf"),
        ([A, B, "--plot", "no/such/f.png"], "there is no folder"),
    ],
)
def test_wrong_guesses(folder, words, said):
    refused = tilt("compare", *words, cwd=folder)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr
    assert refused.stdout == ""
