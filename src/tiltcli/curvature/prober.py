"""From a snapshot of a training to a row of the probes table."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tiltcli.curvature.lanczos import Product
from tiltcli.curvature.points import kernel_points
from tiltcli.data import Dataset
from tiltcli.engines.base import Snapshot
from tiltcli.grid import Job, ProbeSettings
from tiltcli.networks.initial import has_one_hidden_layer

Array = npt.NDArray[np.float64]


class Curvature(Protocol):
    """What can be asked of a network's weights; one object may be asked from several threads."""

    def hessian(self, theta: Array, gamma: Array) -> dict[str, float]:
        """Hessian columns but `hessian_max_static`; NaN for what did not converge."""

    def hessian_max(self, theta: Array, gamma: Array) -> float:
        """Largest eigenvalue of the Hessian alone."""

    def hessian_product(self, theta: Array, gamma: Array) -> Product:
        """V ↦ H v."""

    def ntk(self, theta: Array) -> dict[str, float]:
        """Tangent kernel columns but `ntk_points`; NaN for what did not converge."""


class Prober:
    """Measures the snapshots of one job; may be called from several threads.

    Args:
        job: the job.
        data: its data.
        settings: what to measure.

    """

    def __init__(self, job: Job, data: Dataset, settings: ProbeSettings) -> None:
        self._job = job.id
        self._settings = settings
        self._points = kernel_points(data.train.y, settings.ntk_points)
        self._curvature = curvature_of(job, data, self._points)

    def __call__(self, snapshot: Snapshot) -> dict[str, Any]:
        """Row of the probes table; a number is a pure function of the snapshot's weights and Γ."""
        row: dict[str, Any] = {
            "job": self._job,
            "epoch": snapshot.epoch,
            "step": snapshot.step,
            "lr": snapshot.lr,
        }
        if "hessian" in self._settings.quantities:
            row |= self._curvature.hessian(snapshot.theta, snapshot.gamma)
            flat = np.ones_like(snapshot.gamma)
            row["hessian_max_static"] = (
                row["hessian_max"]
                if (snapshot.gamma == flat).all()
                else self._curvature.hessian_max(snapshot.theta, flat)
            )
        if "ntk" in self._settings.quantities:
            row |= self._curvature.ntk(snapshot.theta)
            row["ntk_points"] = len(self._points)
        return row


def curvature_of(job: Job, data: Dataset, points: npt.NDArray[np.int64]) -> Curvature:
    """Return what measures a job's network.

    Args:
        job: the job.
        data: its data.
        points: training points of the tangent kernel.

    """
    if not has_one_hidden_layer(job):
        from tiltcli.curvature.autograd import AutogradCurvature

        return AutogradCurvature.of(job, data, points)
    from tiltcli.curvature.compiled import CompiledCurvature

    return CompiledCurvature(data, int(job["model.width"]), str(job["loss.base"]), points)


__all__ = ["Curvature", "Prober", "curvature_of"]
