"""--dry-run's time is that of the work there is, whatever a trial has time for."""

import dataclasses
from pathlib import Path

import pytest

from tiltcli.curvature import probe_cost as probe_trial
from tiltcli.curvature.spectrum import SIGNS
from tiltcli.engines.torch import update_cost as trial
from tiltcli.execution import estimates as estimate
from tiltcli.grid import ProbeSettings, parse_sweep

PICTURES = """
[data]
kind = "digits"
[model]
kind = "myrtle5"
width = 3
[loss]
kind = "static"
[train]
epochs = 200
batch_size = 100
log_every = 50
"""


def jobs(*overrides):
    return parse_sweep(PICTURES, name="x", folder=Path(), overrides=overrides).jobs


def test_torch_counts_updates_and_rows(monkeypatch):
    """11 updates an epoch on 1078 pictures; 5 rows."""
    monkeypatch.setattr(trial, "torch_costs", lambda *_: trial.Costs(0.01, 2.0))
    (job,) = jobs()
    assert estimate.estimate([job], {job.id: "torch"}, 4).seconds == pytest.approx(22 + 10)
    more = jobs("train.seeds=6")
    engines = {job.id: "torch" for job in more}
    assert estimate.estimate(more, engines, 2).seconds == pytest.approx(3 * 32)


def test_a_part_of_many_samples_is_timed(monkeypatch):
    """And counted up; of minibatches a step costs what it costs."""
    job = jobs()[0]
    data = estimate.dataset_of(job)
    monkeypatch.setattr(estimate, "MOST_SAMPLES", len(data.train) // 4)
    monkeypatch.setattr(estimate, "_trial", lambda _, data, engine: 1 / len(data.train))
    for size, timed in (("full", -(-len(data.train) // 4) * 4), (10, len(data.train))):
        one = dataclasses.replace(job, settings={**job.settings, "train.batch_size": size})
        assert estimate._costs(one, data, "fused", "auto") == pytest.approx((timed, 0))


def test_costs_are_those_of_all_samples(monkeypatch):
    """A clock that moves by the samples that went through the network shows what is counted."""
    now = [0.0]
    original = trial.Training._pieces

    def pieces(self, *chosen):
        for piece in original(self, *chosen):
            now[0] += len(piece.y)
            yield piece

    monkeypatch.setattr(trial.Training, "_pieces", pieces)
    monkeypatch.setattr(trial.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(trial, "MOST_SAMPLES", 50)
    data = estimate.dataset_of(jobs()[0])
    known = len(data.train) + len(data.val)
    assert trial.torch_costs(jobs()[0], data, "cpu") == pytest.approx((100, known))
    (whole,) = jobs('train.batch_size="full"')
    assert trial.torch_costs(whole, data, "cpu") == pytest.approx((len(data.train), len(data.val)))


SPIRAL = """
[data]
kind = "spiral"
[model]
width = 10
[loss]
amplitude = 3
period = 50
[train]
epochs = 1000
"""


@pytest.mark.parametrize(("quantities", "each"), [(("hessian",), 300 / 50), (("ntk",), 60 / 50)])
def test_a_probe_costs_as_much_as_all_its_points(monkeypatch, quantities, each):
    monkeypatch.setattr(probe_trial, "_second", lambda work: 1.0 if work() else 0.0)
    monkeypatch.setattr(probe_trial, "WORK", 50 * 63)
    (job,) = parse_sweep(SPIRAL, name="x", folder=Path()).jobs
    settings = ProbeSettings(quantities, 100, 60 if "ntk" in quantities else None)
    data = estimate.dataset_of(job)
    assert probe_trial.probe_seconds(job, data, settings, "fused") == pytest.approx(each)


def test_a_probe_of_pictures_is_counted_in_products(monkeypatch):
    monkeypatch.setattr(probe_trial, "_second", lambda work: 1.0 if work().any() else 0.0)
    data = estimate.dataset_of(jobs()[0])
    hessian = (probe_trial.HESSIAN + SIGNS) * len(data.train)
    kernel = probe_trial.KERNEL * 11 * 40
    for settings, points in (
        (ProbeSettings(("hessian",), 1), hessian),
        (ProbeSettings(("ntk",), 1, 40), kernel),
        (ProbeSettings(every=1, ntk_points=40), hessian + kernel),
    ):
        seconds = probe_trial.probe_seconds(jobs()[0], data, settings, "torch")
        assert seconds == pytest.approx(points / probe_trial.PICTURES)


def test_probes_count_in_the_time(monkeypatch):
    monkeypatch.setattr(estimate, "_costs", lambda *_: (0.01, 0.0))
    monkeypatch.setattr(probe_trial, "probe_seconds", lambda *_: 3.0)
    sweep = parse_sweep(SPIRAL, name="x", folder=Path(), overrides=["train.seeds=2"])
    engines = {job.id: "fused" for job in sweep.jobs}
    found = estimate.estimate(sweep.jobs, engines, 4, probe=ProbeSettings(every=100))
    assert (found.probes, found.probe_seconds) == (22, 66.0)
    assert found.seconds == pytest.approx((2 * 10 + 66) / 4)
    one = estimate.estimate(sweep.jobs[:1], engines, 8, probe=ProbeSettings(every=1000))
    assert one.seconds == pytest.approx(10)  # no longer than its training
