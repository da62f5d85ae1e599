"""Arrays of a wrong shape or type are refused while the tests run."""

import jaxtyping
import numpy as np
import pytest

from tiltcli.curvature.points import kernel_points
from tiltcli.engines.base import Snapshot, class_weights, rates_at
from tiltcli.schedule import Schedule, groups_of

STEPS = np.arange(5, dtype=np.int64)
WRONG = {
    "steps of two axes": lambda: class_weights(None, STEPS[None], 3),
    "steps that are no whole numbers": lambda: class_weights(None, STEPS.astype(float), 3),
    "rates": lambda: rates_at(0.1, (), STEPS[None], 5),
    "labels": lambda: groups_of("random", STEPS[None], 0),
    "kernel points": lambda: kernel_points(STEPS.astype(np.float32), None),
    "snapshot": lambda: Snapshot(0, 0, 0.1, np.ones((1, 3)), np.ones(7)),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_wrong_shapes_are_refused(call):
    with pytest.raises(jaxtyping.TypeCheckError):
        call()


def test_a_result_of_a_wrong_shape_is_refused(monkeypatch):
    schedule = Schedule(3, 2.0, 4)
    assert schedule.gamma(STEPS).shape == (5, 3)
    monkeypatch.setattr(Schedule, "gamma", lambda self, steps: np.ones((len(steps), 2)))
    with pytest.raises(jaxtyping.TypeCheckError):
        class_weights(schedule, STEPS, 3)
