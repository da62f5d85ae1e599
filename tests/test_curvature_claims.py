"""Claims about curvature: counted as stated, on made-up trainings whose answer is known."""

import numpy as np
import pandas as pd
import pytest

import tiltcli
from helpers import tilt, write_grid
from tiltcli.analysis.traces import Trace, jobs_of, trace_of
from tiltcli.evaluation.claims import Verdict, verdict_of
from tiltcli.evaluation.claims.curvature_claims import (
    instability_claims,
    lambda_claims,
    onset_distances,
    pulse_means,
)
from tiltcli.evaluation.claims.valley_claims import pulse_shapes, valley_claims
from tiltcli.grid import parse_sweep
from tiltcli.schedule import Schedule
from tiltcli.statistics import Estimate, proportion_interval

GRID = """
[data]
kind = "spiral"
[model]
width = 10
[loss]
kind = ["static", "dynamical"]
amplitude = 20
period = 500
settle = 500
[train]
epochs = 2500
log_every = 1
seeds = 6
"""

JOBS = parse_sweep(GRID, name="made-up", folder=".").jobs
SCHEDULE = Schedule(3, 20.0, 500, 0, 2000)
STEPS = np.arange(0, 2501, 25)


def training(seed, kind="dynamical", onset=None, crossing=None, heights=None):
    """F alternates from `onset` for 100 steps; λ_max climbs through 2 at `crossing`."""
    (job,) = (j for j in JOBS if j["train.seed"] == seed and j["loss.kind"] == kind)
    steps = np.arange(2501)
    F = 0.3 + np.zeros(2501)
    if onset is not None:
        inside = (steps >= onset) & (steps < onset + 100)
        F += 1e-3 * inside * (-1.0) ** steps
    if heights is None:
        heights = np.full(len(STEPS), 1.0)
        if crossing is not None:
            inside = (crossing - 200 <= STEPS) & (crossing + 200 > STEPS)
            heights = np.where(inside, 2 + (STEPS - crossing) / 400, 1.0)
    probes = pd.DataFrame({"step": STEPS, "hessian_max": heights, "hessian_max_static": heights})
    metrics = pd.DataFrame({"step": steps, "dynamical_loss": F})
    schedule = SCHEDULE if kind == "dynamical" else None
    return Trace(job, metrics, probes, schedule, 3, 300, "")


def test_wilson_interval():
    """Against values of the score test solved by hand: |p̂ − p| = z √(p (1 − p) / n)."""
    for k, n in ((0, 10), (3, 10), (39, 40), (40, 40)):
        found = proportion_interval(k, n)
        assert found.mean == k / n
        for p in (found.low, found.high):
            if 0 < p < 1:
                assert abs(k / n - p) == pytest.approx(1.959964 * np.sqrt(p * (1 - p) / n), 1e-6)
    assert proportion_interval(0, 10).low == 0
    assert proportion_interval(40, 40).high == 1
    assert np.isnan(proportion_interval(0, 0).mean)


def test_a_share_is_held_against_one_half():
    assert verdict_of(Estimate(0.7, 0.51, 0.9, 9), np.nan, 0.5) is Verdict.HELD
    assert verdict_of(Estimate(0.7, 0.49, 0.9, 9), np.nan, 0.5) is Verdict.INCONCLUSIVE
    assert verdict_of(Estimate(0.2, 0.1, 0.49, 9), np.nan, 0.5) is Verdict.NOT_HELD


def test_distances_of_onsets():
    one = training(0, onset=1010, crossing=1000)
    (distance,) = onset_distances(one, one.instabilities())
    assert distance == pytest.approx(10, abs=1)
    alone = training(0, onset=1010)
    assert onset_distances(alone, alone.instabilities()) == [np.inf]
    missed = training(0, crossing=1000)
    assert onset_distances(missed, missed.instabilities()) == [np.inf]
    both = training(0, onset=1400, crossing=1000)
    assert onset_distances(both, both.instabilities()) == [np.inf, np.inf]


@pytest.mark.parametrize(
    ("onset", "verdict", "hits"), [(1020, Verdict.HELD, 6), (1045, Verdict.HELD, 6)]
)
def test_onsets_at_the_crossing(onset, verdict, hits):
    begin, doubling = instability_claims(
        [training(s, onset=onset, crossing=1000) for s in range(6)]
    )
    assert begin.estimate == proportion_interval(hits, 6)
    assert begin.verdict is verdict_of(begin.estimate, np.nan, 0.5)
    assert begin.verdict is verdict
    assert doubling.estimate.mean == 1.0
    assert begin.is_share
    assert np.isnan(begin.p)


def test_onsets_elsewhere_are_not_held():
    some = [training(s, onset=1300, crossing=1000) for s in range(4)]
    begin, _ = instability_claims(some)
    assert begin.estimate.mean == 0.0
    assert begin.verdict is Verdict.NOT_HELD
    assert "8 without a partner" in begin.measured
    assert instability_claims(some[:1]) == []
    assert instability_claims([training(s) for s in range(4)]) == []


def test_lambda_over_the_cycles():
    pulse = STEPS // 500
    falling = [training(s, heights=np.exp(-0.1 * (1 + s) * pulse)) for s in range(6)]
    np.testing.assert_allclose(pulse_means(falling[1]), [0, -0.2, -0.4, -0.6], atol=1e-12)
    (down,) = lambda_claims(falling)
    assert down.estimate.mean == pytest.approx(0.35)
    assert down.verdict is Verdict.HELD
    (few,) = lambda_claims(falling[:4])
    assert few.verdict is Verdict.INCONCLUSIVE  # the interval leaves out zero, p cannot say so
    assert few.estimate.low > 0
    rising = [training(s, heights=np.exp(0.1 * (1 + s) * pulse)) for s in range(6)]
    assert lambda_claims(rising)[0].verdict is Verdict.NOT_HELD


def test_settled_pairs_by_seed():
    runs = []
    levels = [(2.0, 1.0), (3.0, 1.0), (4.0, 2.0), (5.0, 2.0), (6.0, 4.0), (2.0, 1.25)]
    for seed, (static, tilted) in enumerate(levels):
        late = STEPS >= 2000
        runs.append(training(seed, "static", heights=np.where(late, static, 9.0)))
        runs.append(training(seed, heights=np.where(late, tilted, 0.1)))
    settled = lambda_claims(runs)[-1]
    assert settled.claim.startswith("The settled")
    ratios = [static / tilted for static, tilted in levels]
    assert settled.estimate.mean == pytest.approx(np.mean(np.log(ratios)))
    assert settled.estimate.n == 6
    assert settled.verdict is Verdict.HELD
    assert settled.p == 2 / 2**6
    static, tilted = np.exp(np.log(levels).mean(axis=0))
    assert f"geometric means {static:.2f} and {tilted:.2f}" in settled.measured


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("claims")
    grid = GRID.replace("seeds = 6", "seeds = 3\n[probe]\nevery = 49\nquantities = ['hessian']")
    tiltcli.sweep(write_grid(path, grid, "probed"), results=path / "results")
    return path


def test_valleys_of_real_trainings(folder):
    tables = tiltcli.read("probed", folder / "results")
    jobs = jobs_of(folder / "results" / "probed", list(tables.jobs["job"]))
    traces = [trace_of(tables, job) for job in jobs if job["loss.kind"] == "dynamical"]
    shapes = np.array([pulse_shapes(one, "fused") for one in traces])
    assert shapes.shape == (3, 4, 3, 2)
    widens, deepens = valley_claims(traces, {job.id: "fused" for job in jobs})
    lesser = np.minimum(
        shapes[:, :, 1, 0] - shapes[:, :, 0, 0], shapes[:, :, 1, 0] - shapes[:, :, 2, 0]
    )
    assert widens.estimate.mean == pytest.approx(np.nanmean(lesser, axis=1).mean())
    lesser = np.minimum(
        shapes[:, :, 0, 1] - shapes[:, :, 1, 1], shapes[:, :, 2, 1] - shapes[:, :, 1, 1]
    )
    assert deepens.estimate.mean == pytest.approx(lesser.mean())
    assert deepens.estimate.low > 0
    assert deepens.verdict is Verdict.INCONCLUSIVE  # of three trainings
    assert f"{int((lesser > 0).sum())} of 12 pulses" in deepens.measured


def test_report_shows_them(folder):
    shown = tilt("report", "probed", "-o", "r.md", cwd=folder)
    assert shown.returncode == 0, shown.stderr
    text = (folder / "r.md").read_text()
    for claim in ("Valleys widen", "Valleys deepen", "drives λ_max", "settled network"):
        assert f"| {claim}" in text or claim in text
    assert "are not tested here" not in text
    assert "are not judged here" not in text
    for line in text.splitlines():
        if line.startswith("!["):
            assert (folder / line.split("](")[1].rstrip(")")).is_file()
    assert (folder / "figures" / "probed-curvature.png").is_file()
    assert (folder / "figures" / "probed-valley.png").is_file()
