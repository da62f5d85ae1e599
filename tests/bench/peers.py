"""The same training done four ways, each as whoever would use it would tune it.

A peer is a function of (case, steps) that makes full-batch gradient descent steps of one job and
returns the seconds they took, compilation and warm-up left out. Each runs in a process of its own
that is allowed one core.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import numpy as np

from tiltcli.data import load_dataset
from tiltcli.networks.initial import Weights
from tiltcli.schedule import Schedule

SPIRAL = {
    "data.kind": "spiral",
    "data.seed": 0,
    "data.points_per_class": 100,
    "data.classes": 3,
    "data.revolutions": 4.0,
    "data.noise": 0.2,
    "data.standardize": False,
}
CHUNK = 500
"""Steps that the loops inside one compiled call make."""


@dataclass(frozen=True)
class Case:
    """One job of the list that all peers are given."""

    width: int
    dtype: str
    seed: int

    def arrays(self):
        data = load_dataset(SPIRAL)
        rng = np.random.default_rng(self.seed)
        parts = [rng.normal(size=s) for s in ((2, self.width), self.width, (self.width, 3), 3)]
        weights = Weights(*(0.1 * part for part in parts))
        return data, weights

    def gammas(self, begin, count):
        return Schedule(3, 10.0, 300).gamma(np.arange(begin, begin + count))


RATE = 0.1


def one_core():
    """Hold this process to one thread, before any library is loaded."""
    global clock
    clock = time.process_time
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ["XLA_FLAGS"] = (
        "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1 "
        "--xla_force_host_platform_device_count=1"
    )
    os.environ["JAX_PLATFORMS"] = "cpu"


def fused(case, steps):
    """The project's kernel, metrics every 100 steps as a sweep has them."""
    from tiltcli.engines.mlp.kernel import FusedNetwork
    from tiltcli.engines.mlp.layout import Points

    data, weights = case.arrays()
    points = Points.prepare(data.train.X, data.train.y, 3, case.dtype)
    network = FusedNetwork(weights.theta, case.width, points, None, 3)
    record = np.arange(steps) % 100 == 0

    def run():
        network.run(case.gammas(0, steps), np.full(steps, RATE), record)

    network.run(case.gammas(0, 10), np.full(10, RATE), record[:10])
    return timed(run)


def torch_loop(case, steps):
    """A plain autograd loop, as one writes it."""
    import torch

    torch.set_num_threads(1)
    data, weights = case.arrays()
    dtype = getattr(torch, case.dtype)
    X, y = torch.tensor(data.train.X, dtype=dtype), torch.tensor(data.train.y)
    parts = [
        torch.tensor(p, dtype=dtype, requires_grad=True)
        for p in (weights.W1, weights.b1, weights.W2, weights.b2)
    ]
    gammas = torch.tensor(case.gammas(0, steps), dtype=dtype)

    def run(count=steps):
        W1, b1, W2, b2 = parts
        for i in range(count):
            logits = torch.relu(torch.addmm(b1, X, W1)) @ W2 + b2
            each = torch.nn.functional.cross_entropy(logits, y, reduction="none")
            loss = (gammas[i][y] * each).mean()
            gradients = torch.autograd.grad(loss, parts)
            with torch.no_grad():
                for part, gradient in zip(parts, gradients, strict=True):
                    part.sub_(gradient, alpha=RATE)

    run(20)
    return timed(run)


def _jax(dtype):
    import jax

    jax.config.update("jax_enable_x64", dtype == "float64")
    return jax, jax.numpy


def jax_scan(case, steps, *, one_hot=True, unroll=1, turned=False):
    """`lax.scan` over chunks of steps, parameters donated.

    Keywords are what an expert would try: the target as one-hot product or as a gather, steps
    unrolled, and the network with points or units along the fast axis.
    """
    jax, jnp = _jax(case.dtype)
    data, weights = case.arrays()
    X, y = np.asarray(data.train.X, case.dtype), data.train.y
    hot = np.eye(3, dtype=case.dtype)[y]
    parts = [np.asarray(p, case.dtype) for p in (weights.W1, weights.b1, weights.W2, weights.b2)]

    def loss(parts, gamma):
        W1, b1, W2, b2 = parts
        if turned:
            h = jnp.maximum(W1.T @ X.T + b1[:, None], 0)
            log_p = jax.nn.log_softmax((W2.T @ h + b2[:, None]), axis=0).T
        else:
            h = jnp.maximum(X @ W1 + b1, 0)
            log_p = jax.nn.log_softmax(h @ W2 + b2)
        each = -(hot * log_p).sum(1) if one_hot else -log_p[np.arange(len(y)), y]
        return (hot @ gamma * each if one_hot else gamma[y] * each).mean()

    def step(parts, gamma):
        value, gradients = jax.value_and_grad(loss)(parts, gamma)
        return [p - RATE * g for p, g in zip(parts, gradients, strict=True)], value

    def chunk(parts, gammas):
        return jax.lax.scan(step, parts, gammas, unroll=unroll)

    compiled = jax.jit(chunk, donate_argnums=0)
    gammas = np.asarray(case.gammas(0, CHUNK), case.dtype)
    state = [jnp.array(p) for p in parts]

    def run():
        nonlocal state
        for _ in range(max(1, steps // CHUNK)):
            state, values = compiled(state, gammas)
        values.block_until_ready()

    state, _ = compiled(state, gammas)
    return timed(run) * steps / (max(1, steps // CHUNK) * CHUNK)


def jax_turned(case, steps):
    """The scan with points along the fast axis."""
    return jax_scan(case, steps, turned=True)


def jax_unrolled(case, steps):
    """The scan with four steps unrolled."""
    return jax_scan(case, steps, unroll=4)


def jax_gather(case, steps):
    """The scan with a gather instead of a one-hot product."""
    return jax_scan(case, steps, one_hot=False)


def notebook(case, steps):
    """A jitted update called from Python at every step, and four jitted metrics beside it."""
    jax, jnp = _jax(case.dtype)
    data, weights = case.arrays()
    X, y = jnp.asarray(data.train.X, case.dtype), data.train.y
    hot = jnp.asarray(np.eye(3)[y], case.dtype)
    parts = [jnp.asarray(p, case.dtype) for p in (weights.W1, weights.b1, weights.W2, weights.b2)]

    def logits(parts):
        W1, b1, W2, b2 = parts
        return jnp.maximum(X @ W1 + b1, 0) @ W2 + b2

    def weighted(parts, gamma):
        return -(hot @ gamma * (hot * jax.nn.log_softmax(logits(parts))).sum(1)).mean()

    @jax.jit
    def update(parts, gamma):
        return [p - RATE * g for p, g in zip(parts, jax.grad(weighted)(parts, gamma), strict=True)]

    loss = jax.jit(weighted)
    accuracy = jax.jit(lambda parts: (logits(parts).argmax(1) == y).mean())
    ones = np.ones(3, case.dtype)
    gammas = np.asarray(case.gammas(0, steps), case.dtype)

    def run(count=steps):
        nonlocal parts
        values = []
        for i in range(count):
            before = float(loss(parts, gammas[i]))
            parts = update(parts, gammas[i])
            now = float(loss(parts, gammas[i]))
            values.append((float(loss(parts, ones)), now, now - before, float(accuracy(parts))))

    run(5)
    return timed(run)


clock = time.perf_counter
"""Of a process held to one core its processor time: a busy machine then hardly disturbs."""


def timed(run):
    started = clock()
    run()
    return clock() - started


PEERS = {
    "fused": [fused],
    "torch autograd": [torch_loop],
    "jax scan": [jax_scan, jax_turned, jax_unrolled, jax_gather],
    "notebook's way": [notebook],
}
"""Each peer with its variants; the fastest variant counts."""

ALONE = {"notebook's way"}
"""Peers that are one process, not one per core."""
