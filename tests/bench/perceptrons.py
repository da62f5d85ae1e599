"""Perceptrons by every optimiser, batch size, base loss and depth: the kernel and its peers.

Updates a second of one core, all cores at once with a process each. JAX: `lax.scan` over steps,
everything donated, batches gathered by indices that are given (their drawing is left out; the
kernel draws its own), points or units along the fast axis: the faster counts. Torch: the engine of
this project, on one thread. Compilation is left out.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from bench.crew import Crew
from bench.peers import timed
from tiltcli.engines.machine import cores

WIDTHS = [10, 30, 100, 300, 1000]
DATA = {"spiral": (300, 2, 3), "digits": (1078, 64, 10)}
CHUNK = 50
RATE = 1e-4


@dataclass(frozen=True)
class Case:
    """A training; the name of the setting it differs in from plain descent."""

    name: str = "plain"
    data: str = "spiral"
    width: int = 30
    dtype: str = "float32"
    optimizer: str = "sgd"
    momentum: float = 0.0
    nesterov: bool = False
    decay: float = 0.0
    size: int | None = None
    base: str = "cross_entropy"
    depth: int = 1
    seed: int = 0

    @property
    def units(self):
        _, inputs, classes = DATA[self.data]
        return [inputs, *[self.width] * self.depth, classes]

    def arrays(self):
        rng = np.random.default_rng(self.seed)
        points, inputs, classes = DATA[self.data]
        X, y = rng.normal(size=(points, inputs)), rng.integers(0, classes, points)
        parts = []
        for one, other in pairwise(self.units):
            parts += [rng.normal(size=(one, other)) / np.sqrt(one), np.zeros(other)]
        return X, y, parts

    @property
    def flops(self):
        """Arithmetic of an update's matrix products."""
        points = self.size or DATA[self.data][0]
        weights = sum(one * other for one, other in pairwise(self.units))
        return 2 * points * (3 * weights - self.units[0] * self.units[1])


CASES = [
    Case("plain"),
    Case("momentum", momentum=0.9),
    Case("nesterov, decay", momentum=0.9, nesterov=True, decay=1e-4),
    Case("adam", optimizer="adam"),
    Case("adamw", optimizer="adamw", decay=0.01),
    Case("mse", base="mse"),
    Case("batches of 30", size=30),
    Case("batches of 100", size=100),
    Case("batches of 30, adam", size=30, optimizer="adam"),
    Case("depth 2", depth=2),
    Case("depth 3", depth=3),
]


def fused(case, steps):
    from tiltcli.engines.mlp.kernel import Batches, FusedNetwork
    from tiltcli.engines.mlp.layout import Points
    from tiltcli.engines.mlp.optimisers import Optimiser

    X, y, parts = case.arrays()
    classes = case.units[-1]
    points = Points.prepare(X, y, classes, case.dtype, depth=case.depth)
    network = FusedNetwork(
        np.concatenate([part.ravel() for part in parts]),
        case.width,
        points,
        None,
        classes,
        depth=case.depth,
        base=case.base,
        optimiser=Optimiser(case.optimizer, case.momentum, case.nesterov, case.decay),
        batches=None if case.size is None else Batches(case.size, case.seed),
    )
    gammas, rates = np.ones((steps, classes)), np.full(steps, RATE)
    record = np.arange(steps) % (100 * -(-len(y) // (case.size or len(y)))) == 0
    network.run(gammas[:2], rates[:2], record[:2])
    return timed(lambda: network.run(gammas, rates, record))


def torch_engine(case, steps):
    import torch

    from tiltcli.data import Dataset, Part
    from tiltcli.engines.torch.state import Training
    from tiltcli.grid import parse_sweep

    torch.set_num_threads(1)
    size = '"full"' if case.size is None else case.size
    more = f"momentum = {case.momentum}\nnesterov = {str(case.nesterov).lower()}\n"
    text = f"""
    [data]
    kind = "digits"
    [model]
    width = {case.width}
    depth = {case.depth}
    [loss]
    amplitude = 1
    period = 100
    base = "{case.base}"
    [train]
    epochs = 100000000
    lr = {RATE}
    batch_size = {size}
    optimizer = "{case.optimizer}"
    weight_decay = {case.decay}
    dtype = "{case.dtype}"
    """ + (more if case.momentum else "")
    X, y, _ = case.arrays()
    job = parse_sweep(text.replace("    ", ""), name="bench", folder=Path()).jobs[0]
    classes = case.units[-1]
    data = Dataset(Part(X, y), None, None, classes, tuple(map(str, range(classes))))
    run = Training(job, data, torch.device("cpu"), lambda: False)

    def train(count=steps):
        for _ in range(count):
            run.advance(logged=False)

    train(3)
    return timed(train)


def jax_scan(case, steps, *, turned=False):
    import jax

    jax.config.update("jax_enable_x64", case.dtype == "float64")
    jnp = jax.numpy
    X, y, parts = case.arrays()
    X, hot = X.astype(case.dtype), np.eye(case.units[-1], dtype=case.dtype)[y]

    def loss(parts, X, hot, gamma):
        h = X.T if turned else X
        for k in range(0, len(parts), 2):
            h = jnp.maximum(h, 0) if k else h
            W, b = parts[k : k + 2]
            h = W.T @ h + b[:, None] if turned else h @ W + b
        h = h.T if turned else h
        each = (
            ((h - hot) ** 2).sum(1) if case.base == "mse" else -(hot * jax.nn.log_softmax(h)).sum(1)
        )
        return (hot @ gamma * each).mean()

    def step(state, given):
        gamma, chosen = given
        parts, first, second, t = state
        some = (X, hot) if case.size is None else (jnp.asarray(X)[chosen], jnp.asarray(hot)[chosen])
        value, slopes = jax.value_and_grad(loss)(parts, *some, gamma)
        if case.optimizer == "adamw":
            parts = [p * (1 - RATE * case.decay) for p in parts]
        elif case.decay:
            slopes = [g + case.decay * p for g, p in zip(slopes, parts, strict=True)]
        if case.optimizer != "sgd":
            t = t + 1
            first = [0.9 * m + 0.1 * g for m, g in zip(first, slopes, strict=True)]
            second = [0.999 * v + 0.001 * g * g for v, g in zip(second, slopes, strict=True)]
            rate, scale = RATE / (1 - 0.9**t), 1 / jnp.sqrt(1 - 0.999**t)
            along = [m / (jnp.sqrt(v) * scale + 1e-8) for m, v in zip(first, second, strict=True)]
        elif case.momentum:
            first = [case.momentum * m + g for m, g in zip(first, slopes, strict=True)]
            rate, along = RATE, first
            if case.nesterov:
                along = [g + case.momentum * m for g, m in zip(slopes, first, strict=True)]
        else:
            rate, along = RATE, slopes
        parts = [p - (rate * d).astype(p.dtype) for p, d in zip(parts, along, strict=True)]
        return (parts, first, second, t), value

    compiled = jax.jit(lambda state, given: jax.lax.scan(step, state, given), donate_argnums=0)
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, len(y), (CHUNK, case.size or 1))
    given = np.ones((CHUNK, case.units[-1]), case.dtype), chosen
    parts = [part.astype(case.dtype) for part in parts]
    has_first = case.optimizer != "sgd" or case.momentum
    zeros = [jnp.zeros_like(part) for part in parts]
    state = (
        [jnp.array(part) for part in parts],
        list(zeros) if has_first else [],
        [jnp.zeros_like(part) for part in parts] if case.optimizer != "sgd" else [],
        jnp.zeros((), case.dtype),
    )

    def run():
        nonlocal state
        for _ in range(max(1, steps // CHUNK)):
            state, values = compiled(state, given)
        values.block_until_ready()

    state, _ = compiled(state, given)
    return timed(run) * steps / (max(1, steps // CHUNK) * CHUNK)


def jax_turned(case, steps):
    return jax_scan(case, steps, turned=True)


PEERS = {"fused": [fused], "jax": [jax_scan, jax_turned], "torch": [torch_engine]}


def rate(crew, work, case, seconds):
    """Updates a second of a core, best of two."""
    steps = CHUNK
    while (taken := crew.seconds(work, case, steps)) < seconds / 2 and steps < 1 << 22:
        steps = int(min(20.0, max(2.0, seconds / max(taken, 1e-9))) * steps)
    return steps / min(taken, crew.seconds(work, case, steps))


def report(seconds=0.3, widths=WIDTHS, data=tuple(DATA), peaks=None):
    """Measure and print."""
    rows = []
    crew = Crew(cores())
    print("\nperceptrons: updates a second and core; × is fused against that peer")
    for dtype in ("float32", "float64"):
        for name in data:
            for width in widths:
                print(f"{dtype}, {name}, width {width}")
                plain = None
                for kind in CASES:
                    case = replace(kind, data=name, width=width, dtype=dtype)
                    row = {"case": case.name, "dtype": dtype, "data": name, "width": width}
                    for peer, works in PEERS.items():
                        row[peer] = max(rate(crew, work, case, seconds) for work in works)
                    plain = plain or row["fused"]
                    text = f"  {case.name:<20}{row['fused']:>14,.0f}"
                    text += f"{row['fused'] / plain:>7.2f} of plain"
                    for peer in ("jax", "torch"):
                        text += f"{row[peer]:>12,.0f} {peer} {row['fused'] / row[peer]:>6.1f}×"
                    text += f"{row['fused'] * case.flops / 1e9:>7.0f} GFLOP/s"
                    if peaks:
                        row["fraction"] = row["fused"] * case.flops * cores() / peaks[dtype]
                        text += f" {row['fraction']:>4.0%} of peak"
                    print(text, flush=True)
                    rows.append(row)
    crew.close()
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.3, help="per measurement")
    parser.add_argument("--widths", type=int, nargs="*", default=WIDTHS)
    parser.add_argument("--data", nargs="*", default=list(DATA))
    options = parser.parse_args()
    report(options.seconds, options.widths, options.data)
