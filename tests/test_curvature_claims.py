"""Claims about the dynamics, recomputed from the Parquet files by their definitions.

The made-up run is a real one, small, whose tables then get losses and curvatures whose onsets,
periods and crossings are known.
"""

from dataclasses import astuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.testing import assert_allclose
from torch.func import jacrev

import tiltcli
from helpers import tilt, write_grid
from tiltcli.analysis.retraining import weights_at
from tiltcli.analysis.traces import jobs_of, trace_of
from tiltcli.data import dataset_of
from tiltcli.evaluation.claims import Verdict, verdict_of
from tiltcli.evaluation.claims.curvature_claims import DOWN, MATCHED, SETTLED
from tiltcli.evaluation.claims.onset_claims import BEGIN, DOUBLING, distance
from tiltcli.evaluation.claims.valley_claims import DEEPENS, WIDENS, pulse_shapes
from tiltcli.reports.loaded_runs import load_run
from tiltcli.reports.template import signed
from tiltcli.reports.verdict_list import curvature_findings
from tiltcli.statistics import Estimate, mean_interval, proportion_interval

GRID = """
[data]
kind = "spiral"
points_per_class = 20
[model]
width = 5
[loss]
kind = ["static", "dynamical"]
amplitude = 20
period = 500
settle = 500
[train]
epochs = 2500
log_every = 1
seeds = 6
[probe]
every = 24
quantities = ["hessian"]
[[also]]
loss.kind = "dynamical"
loss.groups = "all"
"""

SEEDS, PULSE, SETTLED_FROM = 6, 500, 2000
OTHERS, ASIDE = "against others' crossings", "against the lesser of 0.9 and 1.1"
CONTROLS = ("static", "class-blind")


def onset_of(seed, pulse):
    """Somewhere in the first half of a pulse, another place in each training."""
    return PULSE * pulse + 130 + 17 * ((3 * seed + 5 * pulse) % 7)


def period_of(seed, pulse):
    """Of seeds 0 to 3 all begin with period 2; the others are of period 4 or 3."""
    return 2 if seed < 4 else (4, 3)[pulse % 2]


def made_up_loss(job, steps):
    """F: calm but for a bounce of 300 steps in each pulse of a training tilted by class."""
    F = 0.3 + 0 * steps.astype(float)
    if job["loss.kind"] == "static" or job["loss.groups"] == "all":
        return F
    seed = job["train.seed"]
    for pulse in range(4):
        inside = (steps >= onset_of(seed, pulse)) & (steps < onset_of(seed, pulse) + 300)
        swing = {2: (1, -1), 3: (2, -1, -1), 4: (1, -1, 1.6, -1.6)}[period_of(seed, pulse)]
        F += 1e-3 * inside * np.resize(swing, len(steps))
        if seed < 2:  # period 4 from the middle of the bounce on
            late = inside & (steps >= onset_of(seed, pulse) + 150)
            F += 1e-3 * late * np.resize((0, 0, 0.6, -0.6), len(steps))
    return F


def made_up_curvature(job, steps, rng):
    """λ_max of F: up by 0.01 a step to 2.6, through 2 ten steps before the onset; then down."""
    if job["loss.kind"] == "static" or job["loss.groups"] == "all":
        return rng.uniform(0.4, 1.5, len(steps)) * np.exp(-steps / 9000)
    heights = np.full(len(steps), 0.5)
    for pulse in range(4):
        since = steps - (onset_of(job["train.seed"], pulse) - 10)
        heights = np.where((since > -150) & (since < 60), 2 + 0.01 * since, heights)
    return heights * (1 + 1e-3 * rng.random(len(steps)))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A run of each of three kinds, made up in place: all controls, no controls, one training."""
    path = tmp_path_factory.mktemp("claims")
    rng = np.random.default_rng(7)
    alone = GRID.replace('["static", "dynamical"]', '"dynamical"').partition("[[also]]")[0]
    for name, grid in {
        "whole": GRID,
        "alone": alone,
        "single": alone.replace("seeds = 6", "seeds = 1"),
    }.items():
        tiltcli.sweep(write_grid(path, grid, name), results=path / "results")
        tables = tiltcli.read(name, path / "results")
        jobs = {job.id: job for job in jobs_of(path / "results" / name, list(tables.jobs["job"]))}
        for table in ("metrics", "probes"):
            for file in (path / "results" / name / table).glob("*.parquet"):
                make_up(file, jobs, rng)
    return path / "results"


def make_up(file, jobs, rng):
    """Put made-up numbers into a table of metrics or of probes."""
    table = pq.read_table(file)
    ids, steps = (table[c].to_numpy() for c in ("job", "step"))
    columns = {}
    for job in set(ids):
        own = ids == job
        if "dynamical_loss" in table.column_names:
            level = 2.0 ** -(steps[own] / 800) * np.exp(0.2 * rng.standard_normal(own.sum()))
            made = {"dynamical_loss": made_up_loss(jobs[job], steps[own]), "train_loss": level}
        else:
            static = np.exp(rng.normal(0.2 if jobs[job]["loss.kind"] == "static" else 0, 0.3))
            made = {
                "hessian_max": made_up_curvature(jobs[job], steps[own], rng),
                "hessian_max_static": static * np.exp(0.1 * rng.standard_normal(own.sum())),
            }
            made["hessian_max"][5] = made["hessian_max_static"][7] = np.nan  # not converged
        for column, values in made.items():
            columns.setdefault(column, np.full(len(ids), np.nan))[own] = values
    for column, values in columns.items():
        at = table.column_names.index(column)
        field = table.schema.field(at)
        array = pa.array(values, mask=np.isnan(values)).cast(field.type)
        table = table.set_column(at, field, array)
    pq.write_table(table, file)


@pytest.fixture(scope="module")
def findings(results):
    return {name: curvature_findings(load_run(name, results)) for name in ("whole", "alone")}


def rows_of(results, name="whole"):
    """Jobs, with their metrics and probes: as pandas reads the files."""
    tables = {
        t: pq.read_table(results / name / t).to_pandas() for t in ("jobs", "metrics", "probes")
    }
    found = {}
    for row in tables["jobs"].to_dict("records"):
        kind = row["loss.kind"]
        kind = "class-blind" if kind == "dynamical" and row["loss.groups"] == "all" else kind
        own = [
            tables[t][tables[t]["job"] == row["job"]].sort_values("step")
            for t in ("metrics", "probes")
        ]
        found[kind, int(row["train.seed"])] = own
    return found


def only(found, claim, containing=""):
    (one,) = (f for f in found if f.claim == claim and containing in f.measured)
    return one


def judged(finding, values):
    """Whether a finding is the mean of these values, one a training, with its interval."""
    assert_allclose(astuple(finding.estimate), astuple(mean_interval(values)), rtol=1e-9)
    signs = np.array(np.meshgrid(*[[1, -1]] * len(values))).reshape(len(values), -1)
    sums = np.abs(np.asarray(values) @ signs)
    assert finding.p == np.mean(sums >= abs(np.sum(values)) - 1e-12)


def climbs(probes, factor):
    """Steps at which λ_max comes through factor · 2/η, having been below it for 100 steps."""
    known = probes.dropna(subset="hessian_max")
    steps, heights = known["step"].to_numpy(), known["hessian_max"].to_numpy()
    level = 2.0 * factor
    found = []
    for i in range(1, len(steps)):
        if heights[i] < level or heights[i - 1] >= level:
            continue
        before = [s for s, h in zip(steps[:i], heights[:i], strict=True) if h >= level]
        first_below = steps[steps > before[-1]][0] if before else steps[0]
        if steps[i - 1] - first_below >= 100:
            share = (level - heights[i - 1]) / (heights[i] - heights[i - 1])
            found.append(round(steps[i - 1] + share * (steps[i] - steps[i - 1])))
    return found


def apart(onsets, crossed):
    """Mean distance of each from the nearest of the other kind, half a pulse at most."""
    each = [min([abs(a - b) for b in crossed], default=9e9) for a in onsets]
    each += [min([abs(a - b) for a in onsets], default=9e9) for b in crossed]
    return np.mean(np.minimum(each, PULSE / 2))


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


def test_distance():
    assert distance([10, 100], [12], 50) == pytest.approx((2 + 50 + 2) / 3)
    assert distance([10], [], 50) == distance([], [10], 50) == 50
    assert np.isnan(distance([], [], 50))


def test_onsets_at_the_bound_of_their_own_training(results, findings):
    """The scan: own crossings beside those of every other training, of each factor."""
    rows = rows_of(results)
    onsets = [[onset_of(seed, pulse) for pulse in range(4)] for seed in range(SEEDS)]
    factors = np.round(np.arange(0.8, 1.21, 0.02), 2)
    table = np.array(
        [
            [
                [apart(own, climbs(rows["dynamical", j][1], f)) for f in factors]
                for j in range(SEEDS)
            ]
            for own in onsets
        ]
    )
    own = np.array([table[i, i] for i in range(SEEDS)])
    others = np.array([np.delete(table[i], i, axis=0).mean(axis=0) for i in range(SEEDS)])
    at, low, high = (np.flatnonzero(factors == f)[0] for f in (1.0, 0.9, 1.1))
    begin, factor = (only(findings["whole"], BEGIN, text) for text in (OTHERS, ASIDE))
    assert begin.estimate.n == SEEDS
    # The detector's onset is the first step that bounces: a step or two beside where it was put.
    assert begin.estimate.mean == pytest.approx((others - own)[:, at].mean(), abs=2)
    worse = np.minimum(own[:, low], own[:, high]) - own[:, at]
    assert factor.estimate.mean == pytest.approx(worse.mean(), abs=2)
    best = factors[own.mean(axis=0).argmin()]
    assert f"own crossings agree best at {best:.2f}" in begin.measured
    assert f"those of others at {factors[others.mean(axis=0).argmin()]:.2f}" in begin.measured
    assert best == pytest.approx(1.05, abs=0.02)  # ten steps later it is 2.1
    assert begin.verdict is Verdict.HELD
    assert begin.p == 2 / 2**SEEDS


def test_the_scan_to_the_last_digit(results, findings):
    """The same, with the detector's own onsets."""
    tables = tiltcli.read("whole", results)
    rows = rows_of(results)
    onsets = {}
    for job in jobs_of(results / "whole", list(tables.jobs["job"])):
        if job["loss.kind"] == "dynamical" and job["loss.groups"] == "class":
            onsets[job["train.seed"]] = [o.onset for o in trace_of(tables, job).instabilities()]
    for seed, found in onsets.items():
        assert_allclose(found, [onset_of(seed, pulse) for pulse in range(4)], atol=2)
    crossed = {seed: climbs(rows["dynamical", seed][1], 1.0) for seed in range(SEEDS)}
    nearer = [
        np.mean([apart(onsets[i], crossed[j]) for j in range(SEEDS) if j != i])
        - apart(onsets[i], crossed[i])
        for i in range(SEEDS)
    ]
    judged(only(findings["whole"], BEGIN, OTHERS), nearer)
    worse = [
        min(apart(onsets[i], climbs(rows["dynamical", i][1], f)) for f in (0.9, 1.1))
        - apart(onsets[i], crossed[i])
        for i in range(SEEDS)
    ]
    judged(only(findings["whole"], BEGIN, ASIDE), worse)


def test_periods_are_counted_by_trainings(findings):
    doubling, onward = (only(findings["whole"], DOUBLING, text) for text in ("2 first", "in any"))
    begins = [[period_of(seed, pulse) == 2 for pulse in range(4)] for seed in range(SEEDS)]
    assert doubling.estimate == proportion_interval(sum(np.mean(b) > 0.5 for b in begins), SEEDS)
    assert f"{np.sum(begins)} of {4 * SEEDS} instabilities begin with it" in doubling.measured
    assert doubling.beside.endswith(f"shuffled order 0 of {4 * SEEDS}")
    # Seeds 0 and 1 go on from 2 to 4 in every pulse, 4 and 5 begin with 4 in every other one.
    assert onward.estimate == proportion_interval(4, SEEDS)
    assert "12 of 24 instabilities go on" in onward.measured
    assert doubling.sample == onward.sample == "trainings"
    assert doubling.is_share
    assert np.isnan(doubling.p)


def slope(probes):
    """Fall of ln λ_max per pulse, least squares, over the four pulses."""
    known = probes[probes["hessian_max"] > 0]
    means = np.log(known["hessian_max"]).groupby(known["step"] // PULSE).mean().loc[:3]
    x = np.arange(4) - 1.5
    return -(x @ means.to_numpy()) / (x @ x)


@pytest.mark.parametrize("control", CONTROLS)
def test_lambda_over_the_cycles(results, findings, control):
    rows = rows_of(results)
    falls = [slope(rows["dynamical", s][1]) - slope(rows[control, s][1]) for s in range(SEEDS)]
    judged(only(findings["whole"], DOWN, f"against {control}"), falls)


def test_the_course_of_lambda(results, findings):
    rows = rows_of(results)
    means = []
    for seed in range(SEEDS):
        probes = rows["dynamical", seed][1].dropna(subset="hessian_max")
        means.append(np.log(probes["hessian_max"]).groupby(probes["step"] // PULSE).mean().loc[:3])
    logs = np.array(means)
    peak = logs.mean(axis=0).argmax()
    rise = mean_interval(logs[:, peak] - logs[:, 0])
    first, top, last = np.exp(logs.mean(axis=0))[[0, peak, 3]]
    said = only(findings["whole"], DOWN, "static").measured
    assert (
        f"from {first:.2f} to {top:.2f} in pulse {peak + 1}, a rise × {np.exp(rise.mean):.3g}"
        in said
    )
    assert f"to {last:.2f} in the last" in said


@pytest.mark.parametrize("control", CONTROLS)
def test_curvature_at_matched_loss(results, findings, control):
    rows = rows_of(results)

    def by_loss(kind, seed):
        metrics, probes = rows[kind, seed]
        known = probes.dropna(subset="hessian_max_static")
        # Every step is logged here, so the loss at a probe is its own.
        loss = metrics.set_index("step")["train_loss"].loc[known["step"]].to_numpy()
        bins = np.floor(np.log(loss) / np.log(np.sqrt(2)))
        return np.log(known["hessian_max_static"]).groupby(bins).mean()

    differences = [
        (by_loss(control, s) - by_loss("dynamical", s)).dropna().mean() for s in range(SEEDS)
    ]
    judged(only(findings["whole"], MATCHED, f"against {control}"), differences)


@pytest.mark.parametrize("control", CONTROLS)
def test_the_settled_network(results, findings, control):
    rows = rows_of(results)
    means = {
        kind: [
            np.log(p.loc[p["step"] >= SETTLED_FROM, "hessian_max_static"]).mean()
            for p in (rows[kind, seed][1] for seed in range(SEEDS))
        ]
        for kind in (control, "dynamical")
    }
    found = only(findings["whole"], SETTLED, f"against {control}")
    judged(found, np.subtract(means[control], means["dynamical"]))
    a, b = (np.exp(np.mean(means[kind])) for kind in (control, "dynamical"))
    assert found.beside == f"dynamical {b:.2f}, {control} {a:.2f}"


def test_missing_controls_are_said(results, findings):
    """Without static and class-blind trainings the rows on λ_max judge nothing and say so."""
    for claim in (DOWN, MATCHED, SETTLED):
        found = only(findings["alone"], claim)
        assert found.verdict is Verdict.INCONCLUSIVE
        assert found.estimate.n == 0
        assert (
            found.beside
            == "nothing to judge by: no static and no class-blind trainings of the same seeds"
        )
    assert "a rise ×" in only(findings["alone"], DOWN).measured
    for one in findings["alone"]:
        assert one.estimate.n == SEEDS or one.claim in (DOWN, MATCHED, SETTLED)
    assert curvature_findings(load_run("single", results)) == []


def test_one_control_is_missing(results):
    run = load_run("whole", results)
    kept = run.tables.jobs["loss.groups"] != "all"
    probes = run.tables.probes
    inside = probes["job"].isin(run.tables.jobs.loc[kept, "job"])
    tables = type(run.tables)(run.name, run.tables.jobs, run.tables.metrics, probes[inside])
    found = curvature_findings(type(run)(run.folder, tables, run.static, run.dynamical))
    for claim in (DOWN, MATCHED, SETTLED):
        one = only(found, claim)
        assert "static" in one.measured.partition(":")[0]
        assert one.beside.endswith("; no class-blind trainings of the same seeds")


def test_valleys_by_dense_hessians(results):
    """One training: floors and widths on lines along a dense eigenvector and a random one."""
    tables = tiltcli.read("alone", results)
    (job,) = jobs_of(results / "alone", [tables.jobs["job"].iloc[1]])
    data = dataset_of(job)
    X, y = torch.from_numpy(data.train.X).double(), torch.from_numpy(data.train.y)
    steps = [0, 250, 500]
    snapshots = weights_at(job, data, steps, "fused")
    random = np.random.default_rng(job["train.seed"]).normal(size=snapshots[0].theta.size)

    def loss(theta, gamma):
        W1, b1, W2, b2 = torch.split(theta, [10, 5, 15, 3])
        z = torch.relu(X @ W1.reshape(2, 5) + b1) @ W2.reshape(5, 3) + b2
        return (gamma[y] * torch.nn.functional.cross_entropy(z, y, reduction="none")).mean()

    found = pulse_shapes(trace_of(tables, job), "fused")
    assert found.shape == (4, 3, 3, 2)
    for k, shot in enumerate(snapshots):
        theta, weights = torch.tensor(shot.theta), torch.tensor(shot.gamma)
        H = jacrev(jacrev(loss))(theta, weights).numpy()
        top, flat = np.linalg.eigh(H)[1][:, -1], torch.ones(3, dtype=torch.float64)
        lines = [(top, weights, 3), (top, flat, 3), (random / np.linalg.norm(random), weights, 12)]
        for which, (direction, gamma, reach) in enumerate(lines):
            alphas = np.linspace(-reach, reach, 241)
            on_line = (theta + alpha * torch.tensor(direction) for alpha in alphas)
            losses = np.array([loss(point, gamma).item() for point in on_line])
            width, floor = found[0, k, which]
            assert floor == pytest.approx(losses.min(), abs=1e-6)
            inside = losses < losses.min() + 0.02
            if not (inside[0] or inside[-1]):
                assert width == pytest.approx(
                    alphas[inside][-1] - alphas[inside][0], abs=0.02 * reach
                )


def test_rows_of_valleys(results, findings):
    tables = tiltcli.read("whole", results)
    jobs = jobs_of(results / "whole", list(tables.jobs["job"]))
    shapes = np.array(
        [
            pulse_shapes(trace_of(tables, job), "fused")
            for job in jobs
            if job["loss.kind"] == "dynamical" and job["loss.groups"] == "class"
        ]
    )
    for claim, column, sign in ((WIDENS, 0, 1), (DEEPENS, 1, -1)):
        begin, middle, end = (sign * shapes[:, :, k, :, column] for k in range(3))
        changes = np.minimum(middle - begin, middle - end)
        for which, loss in ((0, "F"), (1, "the static loss")):
            found = only(findings["whole"], claim, f"to end for {loss}:")
            judged(found, np.nanmean(changes[..., which], axis=1))
            known = changes[..., which][~np.isnan(changes[..., which])]
            assert f"in {(known > 0).sum()} of {len(known)} pulses" in found.measured
            random = mean_interval(np.nanmean(changes[..., 2], axis=1))
            assert f"random direction {random.mean:.3g}" in found.beside


def test_words_keep_their_hyphens():
    assert signed("class-blind -0.02, -.5 … +1") == "class-blind −0.02, −.5 … +1"


def test_report_shows_them(results):
    shown = tilt("report", "whole", "-o", "r.md", cwd=results.parent)
    assert shown.returncode == 0, shown.stderr
    text = (results.parent / "r.md").read_text()
    for claim in (BEGIN, DOUBLING, DOWN, MATCHED, WIDENS, DEEPENS):
        assert f"| {claim} |" in text
    assert "are not tested here" not in text
    assert "are not judged here" not in text
    for line in text.splitlines():
        if line.startswith("!["):
            assert (results.parent / line.split("](")[1].rstrip(")")).is_file()
    assert (results.parent / "figures" / "whole-curvature.png").is_file()
    assert (results.parent / "figures" / "whole-valley.png").is_file()
