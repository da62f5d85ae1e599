"""Probes per second: ours, a dense Hessian by JAX, and torch's products with SciPy's Lanczos.

The same weights, 300 points of the spiral and class weights for all, in float64 and on one core
each: λ_max of the Hessian of F, and of the traced tangent kernel. Compilation is left out.
"""

from __future__ import annotations

import multiprocessing
import time

import numpy as np

from bench import peers

POINTS, CLASSES, GAMMA = 300, 3, (2.5, 0.25, 0.25)


def trained(width):
    """Points, labels, and weights after 3000 steps of a dynamical training."""
    from tiltcli.engines.mlp.kernel import FusedNetwork
    from tiltcli.engines.mlp.layout import Points
    from tiltcli.schedule import Schedule

    data, weights = peers.Case(width, "float64", 0).arrays()
    points = Points.prepare(data.train.X, data.train.y, CLASSES, "float64")
    network = FusedNetwork(weights.theta, width, points, None, CLASSES)
    steps = 3000
    gammas = Schedule(CLASSES, 20.0, 1000, 0, None).gamma(np.arange(steps))
    network.run(gammas, np.full(steps, 0.5), np.zeros(steps, dtype=bool))
    return data, network.theta.copy()


def ours(width):
    """The project's compiled products and Lanczos."""
    from tiltcli.curvature.compiled import CompiledCurvature
    from tiltcli.curvature.lanczos import extreme_eigenvalues

    data, theta = trained(width)
    curvature = CompiledCurvature(data, width, "cross_entropy", np.arange(POINTS))
    gamma = np.array(GAMMA)

    def hessian():
        return curvature.hessian_max(theta, gamma)

    def kernel():
        return float(extreme_eigenvalues(curvature.traced_product(theta), POINTS, 1)[0])

    return hessian, kernel


def dense(width):
    """Both matrices formed by JAX, compiled, and all their eigenvalues."""
    import jax

    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy
    data, theta = trained(width)
    X, y, gamma = jnp.asarray(data.train.X), jnp.asarray(data.train.y), jnp.asarray(GAMMA)

    def logits(flat):
        W1, b1, W2, b2 = jnp.split(flat, [2 * width, 3 * width, 6 * width])
        hidden = jax.nn.relu(X @ W1.reshape(2, width) + b1)
        return hidden @ W2.reshape(width, CLASSES) + b2

    def loss(flat):
        each = -jax.nn.log_softmax(logits(flat))[jnp.arange(POINTS), y]
        return (gamma[y] * each).mean()

    @jax.jit
    def hessian(flat):
        return jnp.linalg.eigvalsh(jax.hessian(loss)(flat))[-1]

    @jax.jit
    def kernel(flat):
        J = jax.jacrev(logits)(flat)
        return jnp.linalg.eigvalsh(jnp.einsum("ikp,jkp->ij", J, J) / CLASSES)[-1]

    flat = jnp.asarray(theta)
    return lambda: float(hessian(flat)), lambda: float(kernel(flat))


def products(width):
    """What one writes by hand: torch's products, and SciPy's Lanczos on them."""
    import torch
    from scipy.sparse.linalg import LinearOperator, eigsh
    from torch.func import grad, jvp, vjp

    torch.set_num_threads(1)
    data, theta = trained(width)
    X, y = torch.from_numpy(data.train.X), torch.from_numpy(data.train.y)
    flat, gamma = torch.from_numpy(theta), torch.tensor(GAMMA, dtype=torch.float64)

    def logits(flat):
        W1, b1, W2, b2 = torch.split(flat, [2 * width, width, width * CLASSES, CLASSES])
        hidden = torch.relu(X @ W1.reshape(2, width) + b1)
        return hidden @ W2.reshape(width, CLASSES) + b2

    def loss(flat):
        each = torch.nn.functional.cross_entropy(logits(flat), y, reduction="none")
        return (gamma[y] * each).mean()

    def largest(product, size):
        start = np.random.default_rng(0).normal(size=size)
        operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
        found = eigsh(operator, 1, which="LA", v0=start, tol=1e-8, return_eigenvectors=False)
        return float(found[0])

    def hessian():
        back = vjp(grad(loss), flat)[1]
        return largest(lambda v: back(torch.from_numpy(v.ravel()))[0].numpy(), flat.numel())

    def kernel():
        back = vjp(logits, flat)[1]

        def product(v):
            total = torch.zeros(POINTS, dtype=torch.float64)
            for k in range(CLASSES):
                weights = torch.zeros(POINTS, CLASSES, dtype=torch.float64)
                weights[:, k] = torch.from_numpy(v.ravel())
                total += jvp(logits, (flat,), (back(weights)[0],))[1][:, k]
            return (total / CLASSES).numpy()

        return largest(product, POINTS)

    return hessian, kernel


PEERS = {"ours": ours, "dense by JAX": dense, "torch and eigsh": products}


def _rates(pipe, name, width, seconds):
    """Value and probes per second of both quantities, by a process that is held to one core."""
    peers.one_core()
    found = []
    for probe in PEERS[name](width):
        value, least, end = probe(), float("inf"), time.monotonic() + seconds
        while time.monotonic() < end:
            started = time.perf_counter()
            probe()
            least = min(least, time.perf_counter() - started)
        found.append((value, 1 / least))
    pipe.send(found)


def rates(name, width, seconds):
    """See `_rates`, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_rates, args=(there, name, width, seconds), daemon=True)
    process.start()
    there.close()
    found = here.recv()
    process.join()
    return found


def report(width=100, seconds=2.0):
    """Print probes per second of all, and return them."""
    found = {name: rates(name, width, seconds) for name in PEERS}
    for at, quantity in enumerate(("hessian_max", "ntk_max")):
        values = [found[name][at][0] for name in PEERS]
        apart = max(values) / min(values) - 1
        if apart > 1e-6:
            raise SystemExit(f"{quantity}: the peers do not agree: {values}")
        rate = found["ours"][at][1]
        line = ", ".join(
            f"{name} {found[name][at][1]:,.1f} ({rate / found[name][at][1]:.1f}×)"
            for name in list(PEERS)[1:]
        )
        print(
            f"{quantity}, width {width}, {POINTS} points, probes per second of one core: "
            f"ours {rate:,.1f}, {line}; values agree to {apart:.0e}"
        )
    return {name: {"hessian": h[1], "ntk": k[1]} for name, (h, k) in found.items()}


if __name__ == "__main__":
    report()
