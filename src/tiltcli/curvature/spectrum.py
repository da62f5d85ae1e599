"""Estimates from products with a symmetric matrix and random vectors: its trace, its spectrum.

The trace is Hutchinson's (1990); the density of eigenvalues is that of stochastic Lanczos
quadrature (Ubaru, Chen and Saad 2017; of Hessians, Ghorbani, Krishnan and Xiao 2019,
arXiv:1901.10159): Lanczos from a random unit vector q gives nodes θ_i and weights with
Σ_i weight_i f(θ_i) ≈ qᵀ f(H) q, whose mean over q is the mean of f over the eigenvalues. Seeded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh_tridiagonal

from tiltcli.curvature.lanczos import Product, inner, orthogonalise

Array = npt.NDArray[np.float64]

SIGNS = 32
"""Vectors of random signs that estimate a trace."""

VECTORS, NODES = 10, 80
"""Random vectors of a density, and products with each."""


class Estimate(NamedTuple):
    """A mean over random vectors and its standard error."""

    value: float
    error: float


def trace(product: Product, size: int, vectors: int = SIGNS) -> Estimate:
    """Return an estimate of a trace: the mean of s·Hs over `vectors` vectors s of random signs."""
    generator = np.random.default_rng(1)
    signs = (generator.choice([-1.0, 1.0], size) for _ in range(vectors))
    found = [float(s @ product(s)) for s in signs]
    return Estimate(float(np.mean(found)), float(np.std(found, ddof=1) / math.sqrt(vectors)))


@dataclass(frozen=True)
class Density:
    """Density of eigenvalues: nodes (vectors, products), and weights that add up to 1 in a row."""

    nodes: Array
    weights: Array

    @property
    def error(self) -> float:
        """Largest standard error of the share of eigenvalues up to any number."""
        shares = [
            [row[nodes <= at].sum() for nodes, row in zip(self.nodes, self.weights, strict=True)]
            for at in self.nodes.ravel()
        ]
        return float(np.max(np.std(shares, axis=1, ddof=1)) / math.sqrt(len(self.nodes)))

    def smooth(self, at: Array, width: Array | float) -> tuple[Array, Array]:
        """Return the density at points (n,), nodes spread as Gaussians, and its standard error."""
        away = (at[:, None, None] - self.nodes) / np.reshape(width, (-1, 1, 1))
        each = (np.exp(-(away**2) / 2) * self.weights).sum(axis=2)
        each /= np.reshape(width, (-1, 1)) * math.sqrt(2 * math.pi)
        return each.mean(axis=1), each.std(axis=1, ddof=1) / math.sqrt(len(self.nodes))


def density(product: Product, size: int, vectors: int = VECTORS, nodes: int = NODES) -> Density:
    """Return the density of eigenvalues, of random directions and `nodes` products with each.

    Where Lanczos ended early the rest of a row has weight 0.
    """
    steps = min(nodes, size)
    generator = np.random.default_rng(2)
    found = Density(np.zeros((vectors, steps)), np.zeros((vectors, steps)))
    for row in range(vectors):
        basis, alpha, beta = np.empty((steps, size)), np.zeros(steps), np.zeros(steps)
        q = generator.standard_normal(size)
        length, scale, count = float(np.linalg.norm(q)), 0.0, 0
        while count < steps and length > 1e-10 * scale:
            basis[count] = q / length
            q = product(basis[count])
            alpha[count] = inner(basis[count], q)
            beta[count] = length = orthogonalise(basis, count + 1, q)
            scale, count = max(scale, abs(alpha[count]), length), count + 1
        theta, vector = eigh_tridiagonal(alpha[:count], beta[: count - 1])
        found.nodes[row, :count], found.weights[row, :count] = theta, vector[0] ** 2
    return found
