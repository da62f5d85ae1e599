"""--dry-run's time is that of the work there is, whatever a trial has time for."""

from pathlib import Path

import pytest

from tiltcli import estimate
from tiltcli.engines import trial
from tiltcli.spec import parse_sweep

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
    assert estimate.estimate_seconds([job], {job.id: "torch"}, 4) == pytest.approx(22 + 10)
    more = jobs("train.seeds=6")
    engines = {job.id: "torch" for job in more}
    assert estimate.estimate_seconds(more, engines, 2) == pytest.approx(3 * 32)


def test_costs_are_those_of_all_samples(monkeypatch):
    """A clock that moves by the samples that went through the network shows what is counted."""
    now = [0.0]
    original = trial.Training._pieces

    def pieces(self, samples, rows):
        for piece in original(self, samples, rows):
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
