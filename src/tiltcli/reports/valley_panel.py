"""The valley through a pulse, for the page: trained again where that takes seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tiltcli.analysis.traces import Trace
from tiltcli.analysis.valleys import Slice, Valleys, valleys_of
from tiltcli.errors import UserError
from tiltcli.networks.initial import has_one_hidden_layer
from tiltcli.reports.loaded_runs import Run
from tiltcli.reports.pack import floats

PULSES, PHASES = 2, 13
"""Pulses trained again, and steps of each at which the valley is cut."""

SHOWN = 1.5
"""The line is drawn so far to either side of the weights."""

MOST_WORK = 6e10
"""Floating-point operations up to which a training is done again: a few seconds of one core."""

_PRODUCTS = 150  # of a Hessian with a vector, to find one eigenvector


def valley(run: Run, one: Trace) -> tuple[dict[str, Any] | None, str]:
    """Cut through the loss along the Hessian's top eigenvector, through a pulse of a training."""
    schedule = one.schedule
    if schedule is None:
        return None, "The valley is followed through a pulse: a static training has none."
    absent = "The valley through a pulse is not part of this page: "
    if not has_one_hidden_layer(one.job):
        return None, f"{absent}it is cut through networks of one hidden layer."
    (row,) = run.tables.jobs[run.tables.jobs["job"] == one.job.id].to_dict("records")
    if work(one, int(row["parameters"])) > MOST_WORK:
        return None, (
            f"{absent}this training takes too long to be done again for it; "
            f"tiltcli plot valley {run.name} draws it."
        )
    try:
        found = valleys_of(one, str(row["engine"]), most=PULSES, phases=PHASES)
    except (UserError, OSError) as error:
        return None, f"{absent}{error}."
    return _page(found, schedule.period), (
        f"{one.title}, trained again for this picture: F along the unit eigenvector of its "
        f"Hessian's λ_max, through pulse {found.pulse}. Width: of the stretch on which F lies less "
        "than 0.02 above its floor."
    )


def work(one: Trace, parameters: int) -> float:
    """Return about how many floating-point operations a picture of the valley takes."""
    assert one.schedule is not None
    passes = PULSES * one.schedule.pulse + 2 * _PRODUCTS * (PULSES + 1) * PHASES
    return 6.0 * one.samples * parameters * passes


def _page(found: Valleys, period: int) -> dict[str, Any]:
    own = [one for one in found.trained if 0 <= one.step - found.begin <= period]
    alphas = own[0].alphas
    kept = np.abs(alphas) <= SHOWN + 1e-9

    def series(slices: Sequence[Slice]) -> dict[str, Any]:
        return {
            "losses": [floats(one.losses[kept]) for one in slices],
            "steps": [one.step for one in slices],
            "width": floats([one.valley.width for one in slices]),
            "floor": floats([one.valley.depth for one in slices]),
        }

    return {
        "pulse": found.pulse,
        "begin": found.begin,
        "period": period,
        "middle": found.middle,
        "alphas": floats(alphas[kept]),
        "trained": series(own),
        "frozen": series(found.frozen),
    }
