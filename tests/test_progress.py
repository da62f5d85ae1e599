"""What a sweep's display is told."""

import numpy as np
import pytest

from tiltcli.execution.progress import Progress


def row(kind, value, amplitude=None, period=None, outcome="completed", width=10):
    return {
        "job": f"{kind}{value}{amplitude}{period}{width}",
        "seconds": 1.0,
        "outcome": outcome,
        "model.width": width,
        "loss.kind": kind,
        "loss.amplitude": amplitude,
        "loss.period": period,
        "val_accuracy": value,
        "train_accuracy": 0.9,
    }


def test_standings_are_means_with_the_best_whole_cell():
    progress = Progress(total=20, before=1)
    progress.see(row("static", 0.4))
    for one in (
        row("static", 0.6),
        row("dynamical", 0.6, 3.0, 10),
        row("dynamical", 0.8, 3.0, 10),
        row("dynamical", 0.7, 3.0, 10),
        row("dynamical", 0.1, 10.0, 10),
        row("dynamical", 0.99, 30.0, 10),  # one seed of three: not yet
        row("dynamical", 0.95, 70.0, 10),
        row("dynamical", 0.97, 70.0, 10),
        row("dynamical", None, 70.0, 10, "diverged"),  # its mean would be of the lucky seeds
        row("dynamical", 0.5, 3.0, 10, width=30),
    ):
        progress.end(one)
    assert progress.done == 11
    assert progress.ended == {"completed": 9, "diverged": 1}
    (width, static, best), (other, none, only) = progress.standings()
    assert (width, other) == (10, 30)
    assert (static.n, static.mean) == (2, pytest.approx(0.5))
    (cell, estimate) = best
    assert (cell, estimate.n) == ((3.0, 10), 3)
    assert estimate.mean == pytest.approx(0.7)
    assert estimate.high - 0.7 == pytest.approx(4.30265 * 0.1 / np.sqrt(3), rel=1e-5)
    assert none.n == 0
    assert (only[0], np.isnan(only[1].low)) == ((3.0, 10), True)


def test_without_validation_data_the_means_are_of_training():
    progress = Progress()
    progress.see(row("static", None))
    progress.see(row("static", float("nan")))
    assert progress.metric == "train_accuracy"
    assert progress.standings()[0][1].mean == pytest.approx(0.9)
