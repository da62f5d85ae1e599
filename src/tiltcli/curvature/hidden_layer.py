"""Products with the Hessian and the tangent kernel of a one-hidden-layer ReLU network, compiled.

With x̃ = (x, 1), hidden values h = relu(W1ᵀ x̃) and logits z = W2ᵀ h + b2, a change v of the
parameters changes the logits by z' = W2ᵀ h' + V2ᵀ h + v_b, h' = [h > 0] V1ᵀ x̃. The Hessian of
F = (1/P) Σ_j Γ_{y_j} ℓ(z_j, y_j) is then (Pearlmutter, "Fast exact multiplication by the Hessian",
1994)

    H v = Jᵀ d' + (terms of ∂²z / ∂W1 ∂W2, weighted by d),   d = ∂F/∂z,  d' = ∂²F/∂z² z'.

The ReLU is piecewise linear: almost everywhere it has no curvature of its own. All in float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

# Sums may be reordered into vectors; NaN and infinity keep their meaning.
_MATH = {"contract", "reassoc", "nsz", "arcp"}
_compiled = njit(nogil=True, cache=True, error_model="numpy", fastmath=_MATH)


@_compiled
def forward(X: Any, W1: Any, W2: Any, b2: Any, H: Any, z: Any) -> None:
    """Hidden values H (W, P) and logits z (C, P) of points X (D + 1, P), W1 (D + 1, W)."""
    for c in range(z.shape[0]):
        z[c, :] = b2[c]
    for m in range(W1.shape[1]):
        h = H[m]
        h[:] = 0.0
        for i in range(X.shape[0]):
            a, x = W1[i, m], X[i]
            for j in range(h.size):
                h[j] += a * x[j]
        for j in range(h.size):
            h[j] = max(h[j], 0.0)
        for c in range(z.shape[0]):
            a, row = W2[m, c], z[c]
            for j in range(h.size):
                row[j] += a * h[j]


@_compiled
def softmax_state(z: Any, labels: Any, w: Any, p: Any, d: Any) -> None:
    """Probabilities p and slopes d = ∂F/∂z (C, P) of the cross-entropy with weights w (P)."""
    for j in range(w.size):
        top = z[0, j]
        for c in range(1, z.shape[0]):
            top = max(top, z[c, j])
        total = 0.0
        for c in range(z.shape[0]):
            p[c, j] = math.exp(z[c, j] - top)
            total += p[c, j]
        for c in range(z.shape[0]):
            p[c, j] /= total
            d[c, j] = w[j] * p[c, j]
        if labels[j] >= 0:
            d[labels[j], j] -= w[j]


@_compiled
def squared_state(z: Any, labels: Any, w: Any, p: Any, d: Any) -> None:
    """Slopes d = ∂F/∂z (C, P) of the squared error with weights w (P); p is not used."""
    for c in range(z.shape[0]):
        for j in range(w.size):
            d[c, j] = 2.0 * w[j] * z[c, j]
    for j in range(w.size):
        if labels[j] >= 0:
            d[labels[j], j] -= 2.0 * w[j]


@_compiled
def tangent(v: Any, z: Any, X: Any, H: Any, W2: Any, work: Any) -> None:
    """Change of the logits z (C, P) = J v; keeps the hidden values' change in work (W, P)."""
    inputs, (width, classes) = X.shape[0], W2.shape
    out = inputs * width
    for c in range(classes):
        z[c, :] = v[out + width * classes + c]
    for m in range(width):
        h, change = H[m], work[m]
        change[:] = 0.0
        for i in range(inputs):
            a, x = v[i * width + m], X[i]
            for j in range(h.size):
                change[j] += a * x[j]
        for j in range(h.size):
            change[j] = change[j] if h[j] > 0.0 else 0.0
        for c in range(classes):
            a, b, row = W2[m, c], v[out + m * classes + c], z[c]
            for j in range(h.size):
                row[j] += a * change[j] + b * h[j]


@_compiled
def pull(e: Any, u: Any, X: Any, H: Any, W2: Any) -> None:
    """Parameters u = Jᵀ e of weights e (C, P) on the logits."""
    inputs, (width, classes) = X.shape[0], W2.shape
    out = inputs * width
    back = np.empty(X.shape[1])
    for m in range(width):
        h = H[m]
        back[:] = 0.0
        for c in range(classes):
            a, row, total = W2[m, c], e[c], 0.0
            for j in range(h.size):
                total += h[j] * row[j]
                back[j] += a * row[j]
            u[out + m * classes + c] = total
        _through_relu(back, h, u, X, m, width)
    for c in range(classes):
        u[out + width * classes + c] = e[c].sum()


@_compiled
def _through_relu(back: Any, h: Any, u: Any, X: Any, m: Any, width: Any) -> None:
    for j in range(h.size):
        back[j] = back[j] if h[j] > 0.0 else 0.0
    for i in range(X.shape[0]):
        x, total = X[i], 0.0
        for j in range(h.size):
            total += x[j] * back[j]
        u[i * width + m] = total


@_compiled
def _pull_with_cross(e: Any, d: Any, v: Any, u: Any, X: Any, H: Any, W2: Any, work: Any) -> None:
    """Add to Jᵀ e what ∂²z / ∂W1 ∂W2 gives, with the hidden values' change as `tangent` left it."""
    inputs, (width, classes) = X.shape[0], W2.shape
    out = inputs * width
    back = np.empty(X.shape[1])
    for m in range(width):
        h, change = H[m], work[m]
        back[:] = 0.0
        for c in range(classes):
            a, b, row, slope, total = W2[m, c], v[out + m * classes + c], e[c], d[c], 0.0
            for j in range(h.size):
                total += h[j] * row[j] + change[j] * slope[j]
                back[j] += a * row[j] + b * slope[j]
            u[out + m * classes + c] = total
        _through_relu(back, h, u, X, m, width)
    for c in range(classes):
        u[out + width * classes + c] = e[c].sum()


@_compiled
def hessian(
    v: Any, u: Any, X: Any, H: Any, W2: Any, w: Any, p: Any, d: Any, work: Any, e: Any
) -> None:
    """Product u = H v with the Hessian of F; p (0, P) means the squared error."""
    tangent(v, e, X, H, W2, work)
    for j in range(w.size):
        mean = 0.0
        for c in range(p.shape[0]):
            mean += p[c, j] * e[c, j]
        for c in range(p.shape[0]):
            e[c, j] = w[j] * p[c, j] * (e[c, j] - mean)
        if p.shape[0] == 0:
            for c in range(e.shape[0]):
                e[c, j] *= 2.0 * w[j]
    _pull_with_cross(e, d, v, u, X, H, W2, work)


@_compiled
def trace(X: Any, H: Any, W2: Any, w: Any, p: Any) -> Any:
    """Trace of the Hessian of F: that of Σ_j w_j J_jᵀ S_j J_j, as the cross terms have none."""
    total = 0.0
    width, classes = W2.shape
    for j in range(w.size):
        size = 0.0
        for i in range(X.shape[0]):
            size += X[i, j] * X[i, j]
        own = 2.0 * classes
        if p.shape[0]:
            own = 0.0
            for c in range(classes):
                own += p[c, j] * (1.0 - p[c, j])
        part = own
        for m in range(width):
            h = H[m, j]
            if h > 0.0:
                mean, square = 0.0, 0.0
                for c in range(classes):
                    q = p[c, j] if p.shape[0] else 2.0
                    mean += q * W2[m, c]
                    square += q * W2[m, c] * W2[m, c]
                spread = square - mean * mean if p.shape[0] else square
                part += own * h * h + size * spread
        total += w[j] * part
    return total


@_compiled
def kernel(v: Any, out: Any, X: Any, H: Any, W2: Any) -> None:
    """Product of the traced tangent kernel with v (P).

    K = h hᵀ + 1 + (1/C) (x̃ x̃ᵀ) ∘ Σ_m |W2_m|² [h_m > 0] [h_m > 0]ᵀ.
    """
    classes = W2.shape[1]
    out[:] = v.sum()
    for m in range(W2.shape[0]):
        h, strength = H[m], 0.0
        for c in range(classes):
            strength += W2[m, c] * W2[m, c] / classes
        total = 0.0
        for j in range(h.size):
            total += h[j] * v[j]
        for j in range(h.size):
            out[j] += total * h[j]
        for i in range(X.shape[0]):
            x, total = X[i], 0.0
            for j in range(h.size):
                total += x[j] * v[j] if h[j] > 0.0 else 0.0
            total *= strength
            for j in range(h.size):
                out[j] += total * x[j] if h[j] > 0.0 else 0.0


@_compiled
def full_kernel(v: Any, out: Any, X: Any, H: Any, W2: Any, u: Any, work: Any) -> None:
    """Product J Jᵀ v with the full tangent kernel, v and out (C, P); u holds the parameters."""
    pull(v, u, X, H, W2)
    tangent(u, out, X, H, W2, work)
