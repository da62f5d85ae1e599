"""What a probe of a job costs, measured on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from tiltcli.curvature.lyapunov import Follower
from tiltcli.curvature.points import kernel_points
from tiltcli.curvature.prober import Prober, curvature_of
from tiltcli.data import Dataset, Part
from tiltcli.engines import Context, Interrupted, Snapshot, load_engine
from tiltcli.engines.mlp import fused
from tiltcli.grid import Job, ProbeSettings
from tiltcli.networks.initial import has_one_hidden_layer

TRIAL_SECONDS = 0.15
"""Length of the training whose last weights are probed."""

UPDATES = 50
"""Updates whose derivatives are measured together."""

PICTURES = 128
"""Pictures that a product is measured on."""

WORK = 2e7
"""Points times parameters that a whole probe is measured on, at most."""

HESSIAN, KERNEL = 44, 8
"""Products of a picture network's probe that Lanczos takes, as counted on Myrtle5."""


def probe_seconds(job: Job, data: Dataset, settings: ProbeSettings, engine: str) -> float:
    """Return the processor seconds of one probe.

    A one-hidden-layer network is probed whole, at its first weights and after a moment of its
    training, as Lanczos takes more products at some weights than at others. Of any other
    network one product is measured, which takes long enough, and counted as often as usual. Either
    on few points, and reckoned up to all.
    """
    if not has_one_hidden_layer(job):
        return _by_products(job, data, settings)
    parameters = int(job["model.width"]) * (data.train.X.shape[1] + 1 + data.classes) + data.classes
    points = max(32, int(WORK / parameters))
    small = _part(data, points)
    found: dict[str, Snapshot] = {}
    begun = [float("inf")]
    due = settings.due(int(job["train.epochs"]))
    context = Context(lambda: time.perf_counter() > begun[0] + TRIAL_SECONDS, due)
    try:
        for item in load_engine(engine)(job, small, context):
            if isinstance(item, Snapshot):
                if not found:
                    begun[0] = time.perf_counter()  # what loads and compiles came before
                found["last" if found else "first"] = item
    except Interrupted:
        pass
    seconds = 0.0
    for quantity in settings.quantities:
        if quantity == "lyapunov":
            share = len(data.train) / len(small.train) / max(len(due), 1)
            seconds += _update_seconds(job, small, list(found.values())[-1]) * due[-1] * share
            continue
        asked = settings.ntk_points if quantity == "ntk" else None
        whole = len(kernel_points(data.train.y, asked)) if quantity == "ntk" else len(data.train)
        part = _part(small, min(whole, points))
        one = Prober(job, part, replace(settings, quantities=(quantity,), ntk_points=None))
        each = [_second(partial(one, snapshot)) for snapshot in found.values()]
        taken = len(kernel_points(part.train.y, None)) if quantity == "ntk" else len(part.train)
        seconds += float(np.mean(each)) * whole / taken
    return seconds


def _update_seconds(job: Job, data: Dataset, at: Snapshot) -> float:
    gammas, none = at.gamma[None].repeat(UPDATES, 0), np.zeros(UPDATES, np.bool_)
    network, follow = fused.network_of(job, data, at.theta), Follower(job, data).follow
    trail = network.run(gammas, np.zeros(UPDATES), none, keep=True).trail
    assert trail is not None
    return _second(lambda: follow(trail)) / UPDATES


def _by_products(job: Job, data: Dataset, settings: ProbeSettings) -> float:
    import torch

    from tiltcli.curvature.spectrum import NODES, SIGNS, VECTORS
    from tiltcli.engines.torch.update_cost import one_thread
    from tiltcli.networks.models import network_of, tensors_of

    small = _part(data, PICTURES)
    network = network_of(job, data.sample_shape, data.classes, torch.float64)
    theta, others = (
        np.concatenate([np.zeros(0), *(t.detach().numpy().ravel() for t in some.values())])
        for some in tensors_of(network)
    )
    v = np.full(theta.size, 0.1)
    curvature = curvature_of(job, small, np.zeros(0, dtype=np.int64))
    with one_thread():
        product = curvature.hessian_product(np.concatenate([v, others]), np.ones(data.classes))
        each = _second(lambda: product(v)) / len(small.train)
    points = 0
    if "hessian" in settings.quantities:
        points += (HESSIAN + SIGNS) * len(data.train)
    if "alignment" in settings.quantities:
        points += (HESSIAN + data.classes) * len(data.train)
    if "density" in settings.quantities:
        points += VECTORS * NODES * len(data.train)
    if "ntk" in settings.quantities:
        own = len(kernel_points(data.train.y, settings.ntk_points))
        points += KERNEL * (data.classes + 1) * own  # a product of the traced kernel takes C
    return each * points


def _part(data: Dataset, points: int) -> Dataset:
    train = Part(data.train.X[:points], data.train.y[:points], data.train.group[:points])
    return replace(data, train=train, val=None, test=None)


def _second(work: Callable[[], object]) -> float:
    """Processor seconds of a call after one that loads what it needs."""
    work()
    started = time.thread_time()
    work()
    return time.thread_time() - started
