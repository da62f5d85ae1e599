"""Memory that probing a network takes, so that what cannot be done is refused beforehand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tiltcli.curvature.points import kernel_count
from tiltcli.data.limits import machine_memory
from tiltcli.errors import Fault, listing
from tiltcli.grid import Job, ProbeSettings
from tiltcli.networks.initial import depth_of, has_one_hidden_layer, takes_pictures

VECTORS = 64
"""Vectors of a Lanczos run that are reckoned with; most converge within so many."""

PIECE = 512
"""Points of pictures, or of any network but the compiled one, that are gone through at once."""

SHARE = 0.8
"""Share of the memory that one probe may take."""


def hessian_bytes(job: Job, samples: int, parameters: int) -> int:
    """Memory of one probe of the Hessian."""
    return 8 * (VECTORS * parameters + 2 * _activations(job, samples))


def kernel_bytes(job: Job, points: int, classes: int, parameters: int) -> int:
    """Return the memory of one probe of the full tangent kernel on so many points, in bytes.

    The kernel itself, (points · classes)² numbers, is never formed: only products with it are.
    """
    return 8 * (VECTORS * points * classes + 4 * parameters + 2 * _activations(job, points))


def _activations(job: Job, points: int) -> int:
    width = int(job["model.width"] or 0)
    if has_one_hidden_layer(job):
        return width * points
    return width * min(points, PIECE) * (1 if takes_pictures(job) else depth_of(job))


def memory_faults(
    job: Job,
    samples: int,
    classes: int,
    shapes: Sequence[tuple[int, ...]],
    settings: ProbeSettings,
    option: Callable[[str], str] = "probe.{}".format,
) -> list[Fault]:
    """Return what of a job cannot be probed on this machine; `option` gives a key's name."""
    parameters = sum(math.prod(shape) for shape in shapes)
    room = int(SHARE * machine_memory())
    has = f"this machine has {_said(machine_memory())}"
    faults = []
    of_hessian = [one for one in settings.quantities if one in ("hessian", "alignment", "density")]
    if of_hessian:
        needed = hessian_bytes(job, samples, parameters)
        if needed > room:
            faults.append(
                Fault(
                    f"the Hessian of {parameters:,} parameters would take {_said(needed)} "
                    f"({VECTORS} vectors of that length); {has}. Probe a smaller model.width, "
                    f"or leave {listing(of_hessian)} out",
                    key=option("quantities"),
                )
            )
    if "ntk" in settings.quantities:
        points = kernel_count(samples, settings.ntk_points)
        needed = kernel_bytes(job, points, classes, parameters)
        if needed > room:
            each = kernel_bytes(job, 1, classes, 0)
            fitting = (room - kernel_bytes(job, 0, classes, parameters)) // each
            hint = f"at most {fitting:,} points fit" if fitting > 0 else "no number of points fits"
            faults.append(
                Fault(
                    f"the full tangent kernel of {parameters:,} parameters on {points:,} points "
                    f"and {classes} classes would take {_said(needed)}; {has}. "
                    f"Here {hint}: give fewer, probe a smaller model.width, or leave "
                    f'"ntk" out of {option("quantities")}',
                    key=option("ntk_points"),
                )
            )
    return faults


def _said(amount: int) -> str:
    return f"{amount / 2**30:,.1f} GiB"
