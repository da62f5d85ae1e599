"""Forward and backward pass for any depth and any number of inputs and classes, by tiles of points.

A tile of points goes all the way through (hidden values, logits, loss, gradients) before the next
is looked at, so that what lies between stays in the cache.

All parameters lie in one array, layer after layer, rows padded to whole vectors: W1 by units (width
rows of inputs), b1, then every other W as it is written (rows of its outputs) and its b. A row of
`layers` says of each layer: inputs, outputs, place of W, distance of W's rows, place of b.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from tiltcli.engines.mlp.logits import measure, measure_and_differentiate
from tiltcli.engines.mlp.optimisers import step_along
from tiltcli.engines.mlp.products import accumulate, accumulate_few, affine, gate, turn

TILE = 128
"""Points gone through together; a multiple of `logits.GROUP` vectors of either dtype."""


@register_jitable
def forward(points: Any, network: Any, work: Any, begin: Any, n: Any) -> None:
    """Leave a tile's hidden values in `hidden` and its logits in `logits`."""
    X = points[0]
    theta, layers = network
    hidden, logits = work[0], work[2]
    last = layers.shape[0] - 1
    read, apart = X[0, begin:], X.shape[1]
    for k in range(last + 1):
        inputs, outputs, at, stride, bias = layers[k]
        row, column = (stride, 1) if k == 0 else (1, stride)
        made = hidden[k] if k < last else logits
        least = theta.dtype.type(0 if k < last else -np.inf)
        W, b = theta[at:], theta[bias:]
        affine(made, W, read, b, 1, least, outputs, n, inputs, row, column, apart, TILE)
        read, apart = made[0], TILE


def forward_backward(
    dims: Any, base: Any, points: Any, network: Any, work: Any, gamma: Any
) -> None:
    """Go forward and back over all tiles; measures in `sums`, gradients in `gradient`."""
    X, rows, labels, groups, grouped, count, inverse = points
    theta, layers = network
    hidden, back, logits, turned, turned_logits, gradient, zero, bias, hits, sums = work
    last, none = layers.shape[0] - 1, theta.dtype.type(-np.inf)
    classes = layers[last, 1]
    lanes = bias.shape[1]
    gradient[:] = 0.0
    bias[:] = 0.0
    sums[:] = 0.0
    for begin in range(0, count, TILE):
        taken = min(TILE, count - begin)
        n = (taken + lanes - 1) // lanes * lanes
        forward(points, network, work, begin, n)
        given = labels[begin:], groups[begin:], grouped, gamma, inverse, n, TILE, classes
        measure_and_differentiate(dims, base, logits, *given, bias, hits[begin:], sums)
        deltas, columns = logits, turned_logits
        for k in range(last, -1, -1):
            inputs, outputs, at, stride, _ = layers[k]
            G, W = gradient[at:], theta[at:]
            # Few columns would fill little of a vector; one hidden layer keeps its order of sums.
            few = last > 1 and 2 * (inputs if k == 0 else outputs) <= lanes
            if k == 0:
                if few:
                    sizes = outputs, inputs, n, TILE, X.shape[1], stride
                    accumulate_few(G, deltas, X[0, begin:], *sizes)
                else:
                    right, apart = rows[begin], rows.shape[1]
                    accumulate(G, deltas, right, outputs, stride, taken, TILE, 1, apart, stride)
                break
            above = hidden[k - 1]
            if few:
                accumulate_few(G, above, deltas[0], inputs, outputs, n, TILE, TILE, stride)
            else:
                right, apart = columns[0], columns.shape[1]
                turn(deltas, columns, stride, n, TILE, apart)
                accumulate(G, above, right, inputs, stride, taken, TILE, 1, apart, stride)
            below = back[k % 2]
            affine(below, W, deltas[0], zero, 0, none, inputs, n, outputs, stride, 1, TILE, TILE)
            gate(below, above, gradient[layers[k - 1, 4] :], inputs, n, TILE)
            deltas, columns = below, turned
    for c in range(classes):
        total = bias[c, 0]
        for lane in range(1, lanes):
            total += bias[c, lane]
        gradient[layers[last, 4] + c] = total


def step(dims: Any, points: Any, network: Any, work: Any, optimiser: Any) -> None:
    """Make the optimiser's step along the gradients that the last `forward_backward` found."""
    theta, _ = network
    gradient = work[5]
    kind, coefficients, _, first, second = optimiser
    step_along(gradient, kind, coefficients, theta, first, second, theta.shape[0])


def evaluate(dims: Any, base: Any, points: Any, network: Any, work: Any, gamma: Any) -> None:
    """Go forward and measure into `sums`."""
    _, _, labels, groups, grouped, count, inverse = points
    _, layers = network
    logits, bias, hits, sums = work[2], work[7], work[8], work[9]
    lanes, classes = bias.shape[1], layers[layers.shape[0] - 1, 1]
    sums[:] = 0.0
    for begin in range(0, count, TILE):
        n = (min(TILE, count - begin) + lanes - 1) // lanes * lanes
        forward(points, network, work, begin, n)
        given = labels[begin:], groups[begin:], grouped, gamma, inverse, n, TILE, classes
        measure(dims, base, logits, *given, bias, hits[begin:], sums)
