"""Extreme eigenvalues of a symmetric matrix that is known by its products only: Lanczos.

Golub and Van Loan, "Matrix Computations", 4th edition, sections 10.1 and 10.3. Every vector is made
orthogonal to all before it, so that no eigenvalue appears twice that is not there twice. The start
is seeded, so that the same matrix gives the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy.linalg import eigh_tridiagonal

Array = npt.NDArray[np.float64]
Product = Callable[[Array], Array]

TOLERANCE = 1e-8
"""Residual ‖A x − θ x‖ allowed, as a share of |θ|; some eigenvalue lies within it of θ."""

FLOOR = 1e-3
"""Share of the largest |θ| below which |θ| no longer tightens the tolerance."""

MOST = 600
"""Products after which what has not converged is given up."""

_EACH, _EIGHTH = 24, 8  # look at every product up to the first, then at every so-manieth
_MORE = 30  # further products once the vectors have spanned an invariant space
_compiled = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc"})


@_compiled
def ritz(diagonal: Any, off: Any, last: Any) -> bool:
    """Return whether a tridiagonal matrix became its eigenvalues, by QL with implicit shifts.

    `diagonal` (k) becomes the eigenvalues, in no order; `off` (k), whose off[i] couples i and
    i + 1, is overwritten; `last` (k) becomes the last component of every unit eigenvector.
    """
    n = diagonal.size
    last[:] = 0.0
    last[n - 1] = 1.0
    off[n - 1] = 0.0
    for first in range(n):
        rounds = 0
        while True:
            end = first
            while end < n - 1:
                size = abs(diagonal[end]) + abs(diagonal[end + 1])
                if abs(off[end]) <= 2.3e-16 * size:
                    break
                end += 1
            if end == first:
                break
            rounds += 1
            if rounds > 60:
                return False
            g = (diagonal[first + 1] - diagonal[first]) / (2.0 * off[first])
            r = math.hypot(g, 1.0)
            g = diagonal[end] - diagonal[first] + off[first] / (g + (r if g >= 0 else -r))
            s, c, p = 1.0, 1.0, 0.0
            split = False
            for i in range(end - 1, first - 1, -1):
                f, b = s * off[i], c * off[i]
                r = math.hypot(f, g)
                off[i + 1] = r
                if r == 0.0:
                    diagonal[i + 1] -= p
                    off[end] = 0.0
                    split = True
                    break
                s, c = f / r, g / r
                g = diagonal[i + 1] - p
                r = (diagonal[i] - g) * s + 2.0 * c * b
                p = s * r
                diagonal[i + 1] = g + p
                g = c * r - b
                f = last[i + 1]
                last[i + 1] = s * last[i] + c * f
                last[i] = c * last[i] - s * f
            if not split:
                diagonal[first] -= p
                off[first] = g
                off[end] = 0.0
    return True


@_compiled
def orthogonalise(basis: Any, count: Any, w: Any) -> float:
    """Return the length of w (n) once what lies in the first rows of the basis (·, n) is out.

    It is taken out of w in place, twice, the first row last: products lie mostly along the latest.
    """
    length = 0.0
    for _ in range(2):
        for i in range(count - 1, -1, -1):
            q, dot = basis[i], 0.0
            for j in range(w.size):
                dot += q[j] * w[j]
            for j in range(w.size):
                w[j] -= dot * q[j]
    for j in range(w.size):
        length += w[j] * w[j]
    return math.sqrt(length)


@_compiled
def inner(a: Any, b: Any) -> float:
    """Inner product, in the same order whatever the number of cores."""
    total = 0.0
    for j in range(a.size):
        total += a[j] * b[j]
    return total


@dataclass
class Krylov:
    """Orthonormal rows q_0 … q_{k−1} of `basis`; T = Q A Qᵀ: alpha, and beta[i] at (i, i + 1)."""

    basis: Array
    alpha: Array
    beta: Array
    count: int = 0

    @staticmethod
    def of(size: int) -> Krylov:
        """Room for a matrix of this size; more is made as it is needed."""
        room = min(size, 32)
        return Krylov(np.empty((room, size)), np.zeros(room), np.zeros(room))

    def extend(self) -> None:
        """Double the room."""
        room = min(2 * len(self.alpha), self.basis.shape[1])
        basis = np.empty((room, self.basis.shape[1]))
        basis[: self.count] = self.basis[: self.count]
        self.basis = basis
        self.alpha, self.beta = (np.resize(a, room) for a in (self.alpha, self.beta))

    def values(self) -> tuple[Array, Array]:
        """Eigenvalues of T, rising, and each one's residual; FloatingPointError without them."""
        theta, last = self.alpha[: self.count].copy(), np.empty(self.count)
        if not ritz(theta, self.beta[: self.count].copy(), last):
            raise FloatingPointError("no eigenvalues of the tridiagonal matrix")
        order = np.argsort(theta)
        return theta[order], self.beta[self.count - 1] * np.abs(last[order])


def hessian_columns(
    product: Product, size: int, trace: float, error: float = 0.0
) -> dict[str, float]:
    """Return the columns of a Hessian that every probe has but `hessian_max_static`."""
    found = extreme_eigenvalues(product, size, 3, 1)
    return {
        "hessian_max": float(found[0]),
        "hessian_second": float(found[1]),
        "hessian_third": float(found[2]),
        "hessian_min": float(found[3]),
        "hessian_trace": trace,
        "hessian_trace_error": error,
    }


def kernel_columns(
    full: Product,
    rows: int,
    classes: int,
    traced: Product | None = None,
    tolerance: float = TOLERANCE,
) -> dict[str, float]:
    """Return the columns of a tangent kernel, from v ↦ J Jᵀ v with v (rows · classes).

    `traced` is the product with the kernel summed over the classes and divided by their number;
    without it, that is made by one product for each class.
    """

    def by_class(v: Array) -> Array:
        total = np.zeros(rows)
        for k in range(classes):
            weights = np.zeros((rows, classes))
            weights[:, k] = v
            total += full(weights.ravel()).reshape(rows, classes)[:, k]
        return total / classes

    each = {"ntk_max": (traced or by_class, rows), "ntk_max_full": (full, rows * classes)}
    return {
        name: float(extreme_eigenvalues(product, size, 1, 0, tolerance)[0])
        for name, (product, size) in each.items()
    }


def preconditioned(hessian: Product, diagonal: Array, decay: float = 0.0) -> Product:
    """Return v ↦ P^(−1/2) (H + decay) P^(−1/2) v with the diagonal of P."""
    root = 1 / np.sqrt(diagonal)

    def product(v: Array) -> Array:
        inner = root * v
        return np.asarray(root * (hessian(inner) + decay * inner))

    return product


def extreme_eigenvalues(
    product: Product, size: int, top: int, bottom: int = 0, tolerance: float = TOLERANCE
) -> Array:
    """Return extreme eigenvalues of a symmetric matrix: `top` falling, then `bottom` rising.

    `product` gives A times a float64 vector (size,), a new array each time. NaN stands where there
    are not so many, or where one did not converge within MOST products.
    """
    return _lanczos(product, size, top, bottom, tolerance)[0]


def top_eigenvector(product: Product, size: int) -> Array:
    """Return the unit eigenvector of the largest eigenvalue, up to its sign; NaN without one."""
    found, krylov = _lanczos(product, size, 1, 0, TOLERANCE)
    if math.isnan(found[0]):
        return np.full(size, np.nan)
    k = krylov.count
    vectors = eigh_tridiagonal(krylov.alpha[:k], krylov.beta[: k - 1])[1]
    return np.asarray(vectors[:, -1] @ krylov.basis[:k])


def _lanczos(
    product: Product, size: int, top: int, bottom: int, tolerance: float
) -> tuple[Array, Krylov]:
    krylov = Krylov.of(size)
    generator = np.random.default_rng(0)
    found = np.full(top + bottom, np.nan)
    direction = generator.standard_normal(size)
    direction /= np.linalg.norm(direction)
    wanted, scale = [*range(-1, -top - 1, -1), *range(bottom)], 0.0
    earliest = min(max(top + bottom, 4), size)
    for count in range(1, min(size, MOST) + 1):
        if count > len(krylov.alpha):
            krylov.extend()
        krylov.basis[count - 1] = direction
        w = product(krylov.basis[count - 1])
        along = inner(krylov.basis[count - 1], w)
        if not math.isfinite(along):
            break
        length = orthogonalise(krylov.basis, count, w)
        krylov.count, krylov.alpha[count - 1], krylov.beta[count - 1] = count, along, length
        scale = max(scale, abs(along), length)
        whole = count == size
        spanned = not whole and length <= 1e-14 * math.sqrt(size) * scale
        due = count <= _EACH or count % _EIGHTH == 0 or count == MOST
        if whole or (due and count >= earliest and not spanned):
            theta, residual = krylov.values()
            allowed = tolerance * np.maximum(np.abs(theta), FLOOR * np.abs(theta).max())
            good = (residual <= allowed) | whole
            for i, at in enumerate(wanted):
                if -count <= at < count:
                    found[i] = theta[at] if good[at] else np.nan
            if all(good[at] for at in wanted if -count <= at < count):
                break
        if spanned:
            # What else there is, such as a second copy of an eigenvalue, needs a new direction.
            krylov.beta[count - 1] = 0.0
            w = generator.standard_normal(size)
            length = orthogonalise(krylov.basis, count, w)
            earliest = min(count + _MORE, size)
        direction = w / length
    return found, krylov
