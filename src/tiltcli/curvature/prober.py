"""From a snapshot of a training to a row of the probes table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tiltcli.curvature.blas import single_blas_thread
from tiltcli.curvature.lanczos import (
    Product,
    extreme_eigenvalues,
    preconditioned,
    top_eigenvector,
)
from tiltcli.curvature.points import kernel_points
from tiltcli.curvature.spectrum import density
from tiltcli.curvature.stability import stability_bound
from tiltcli.data import Dataset
from tiltcli.engines.base import Snapshot
from tiltcli.grid import Job, ProbeSettings
from tiltcli.networks.initial import depth_of, has_one_hidden_layer, takes_pictures

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64

LAYERED = 1 << 25
"""Points times logits times units up to which deeper perceptrons are gone through at once."""

MOST_BATCHES = 32
"""Batches, of a seeded order, that the batch sharpness is a mean of, at most."""


class NetworkCurvature(Protocol):
    """What can be asked of a network's weights; one object may be asked from several threads."""

    def hessian(
        self, theta: Float64[np.ndarray, " parameters"], gamma: Float64[np.ndarray, " groups"]
    ) -> dict[str, float]:
        """Hessian columns but `hessian_max_static`; NaN for what did not converge."""

    def hessian_max(
        self, theta: Float64[np.ndarray, " parameters"], gamma: Float64[np.ndarray, " groups"]
    ) -> float:
        """Largest eigenvalue of the Hessian alone."""

    def hessian_product(
        self, theta: Float64[np.ndarray, " parameters"], gamma: Float64[np.ndarray, " groups"]
    ) -> Product:
        """V ↦ H v."""

    def gradient(
        self, theta: Float64[np.ndarray, " parameters"], gamma: Float64[np.ndarray, " groups"]
    ) -> Float64[np.ndarray, " trained"]:
        """Gradient of F."""

    def on(self, rows: Int64[np.ndarray, " rows"]) -> NetworkCurvature:
        """Curvature of the mean loss on some of the training points alone."""

    def ntk(self, theta: Float64[np.ndarray, " parameters"]) -> dict[str, float]:
        """Tangent kernel columns but `ntk_points`; NaN for what did not converge."""


class Prober:
    """Measures the snapshots of one job; may be called from several threads."""

    def __init__(self, job: Job, data: Dataset, settings: ProbeSettings) -> None:
        self._job = job.id
        self._settings, self._classes = settings, data.classes
        self._points = kernel_points(data.train.y, settings.ntk_points)
        self._curvature = curvature_of(job, data, self._points)
        self._bound = stability_bound(job.settings)
        # adamw's decay is no part of what its preconditioner divides.
        self._decay = float(job["train.weight_decay"]) if job["train.optimizer"] == "adam" else 0.0
        size, count = job["train.batch_size"], len(data.train)
        self._batches: list[NetworkCurvature] = []
        if size != "full":
            order, size = np.random.default_rng(0).permutation(count), min(int(size), count)
            for begin in range(0, min(MOST_BATCHES, count // size) * size, size):
                self._batches.append(self._curvature.on(order[begin : begin + size]))

    @single_blas_thread()
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
            if snapshot.preconditioner is not None:
                hessian = self._curvature.hessian_product(snapshot.theta, snapshot.gamma)
                product = preconditioned(hessian, snapshot.preconditioner, self._decay)
                largest = extreme_eigenvalues(product, snapshot.preconditioner.size, 1)
                row["hessian_max_preconditioned"] = float(largest[0])
            if self._batches:
                row["batch_sharpness"] = self._batch_sharpness(snapshot)
            if self._bound is not None and snapshot.lr > 0:
                row["stability_bound"] = self._bound.at(snapshot.lr)
        if "ntk" in self._settings.quantities:
            row |= self._curvature.ntk(snapshot.theta)
            row["ntk_points"] = len(self._points)
        if "alignment" in self._settings.quantities:
            row["alignment"] = self._alignment(snapshot)
        if "density" in self._settings.quantities:
            at = snapshot.theta, snapshot.gamma
            size = self._curvature.gradient(*at).size  # theta may hold what is not trained
            found = density(self._curvature.hessian_product(*at), size)
            row["density_nodes"] = found.nodes.ravel().tolist()
            row["density_weights"] = (found.weights / len(found.weights)).ravel().tolist()
            row["density_vectors"], row["density_error"] = len(found.nodes), found.error
        return row

    def _alignment(self, snapshot: Snapshot) -> list[float]:
        product = self._curvature.hessian_product(snapshot.theta, snapshot.gamma)
        # Where groups are told apart by class, Γ has a weight for each pair.
        each = np.repeat(np.eye(self._classes), snapshot.gamma.size // self._classes, axis=1)
        slopes = [self._curvature.gradient(snapshot.theta, only) for only in each]
        v = top_eigenvector(product, slopes[0].size)
        squares = [float(g @ g) for g in slopes]
        return [
            float(g @ v) ** 2 / square if square else np.nan
            for g, square in zip(slopes, squares, strict=True)
        ]

    def _batch_sharpness(self, snapshot: Snapshot) -> float:
        quotients = []
        for batch in self._batches:
            g = batch.gradient(snapshot.theta, snapshot.gamma)
            if square := float(g @ g):
                hessian = batch.hessian_product(snapshot.theta, snapshot.gamma)
                quotients.append(float(g @ hessian(g)) / square)
        return float(np.mean(quotients)) if quotients else np.nan


def curvature_of(job: Job, data: Dataset, points: Int64[np.ndarray, " points"]) -> NetworkCurvature:
    """Return what measures a job's network; `points` are those of the tangent kernel."""
    base, depth = str(job["loss.base"]), depth_of(job)
    if has_one_hidden_layer(job):
        from tiltcli.curvature.compiled import CompiledCurvature

        return CompiledCurvature(data, int(job["model.width"]), base, points)
    if not takes_pictures(job):
        width = int(job["model.width"])
        if len(data.train) * data.classes * width * depth <= LAYERED:
            from tiltcli.curvature.deep_perceptron import LayeredCurvature

            return LayeredCurvature(data, width, depth, base, points)
    from tiltcli.curvature.autograd import AutogradCurvature

    return AutogradCurvature.of(job, data, points)


__all__ = ["NetworkCurvature", "Prober", "curvature_of"]
