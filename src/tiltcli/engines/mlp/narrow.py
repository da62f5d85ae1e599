"""Forward and backward pass where inputs and classes are few: everything of a unit in registers.

Forward has points in the lanes and goes over the hidden units; each weight is read once for a
group of points. Backward has hidden units in the lanes and goes over the points: weights and
gradient sums of a vector of units stay in registers, the hidden value is computed again rather than
stored, and the optimiser's step is made at the end, so that no gradient ever reaches memory.

All parameters lie in one array, row by row of `stride` numbers: W1 (inputs rows), b1, W2 by classes
(classes rows); b2 last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiltcli.engines.lanes import REGISTERS, Lanes, Value, Vector, emitting
from tiltcli.engines.mlp.logits import measure, measure_and_differentiate
from tiltcli.engines.mlp.optimisers import Parameter, State, emit_step, step_along

LARGEST = 12
"""Inputs + classes up to which this layout is used: beyond, registers spill."""


def _lengths(dims: Any) -> tuple[int, int]:
    # The numbers travel as lengths of tuples: they are part of the type, so the compiler knows
    # them, and the compiled code is cached by type.
    return len(dims.types[0]), len(dims.types[1])


def _emit_forward(
    lanes: Lanes,
    kinds: Any,
    _dims: Value,
    X: Value,
    theta: Value,
    logits: Value,
    width: Value,
    stride: Value,
    points: Value,
    padded: Value,
) -> None:
    """Compute logits (classes, padded) = relu(x W1 + b1) W2 + b2 of X (inputs, padded).

    The lanes are points, of which `points` are gone through, a multiple of the lanes; `kinds` tell
    inputs and classes.
    """
    inputs, classes = _lengths(kinds[0])

    def block(start: Value, group: int) -> None:
        begins = [lanes.offset(start, g * lanes.lanes) for g in range(group)]
        x = [
            [lanes.load(X, lanes.offset((d, padded), begin)) for d in range(inputs)]
            for begin in begins
        ]
        last = lanes.offset((inputs + 1 + classes, stride))
        sums = [
            [lanes.variable(lanes.spread(theta, lanes.offset(last, c))) for c in range(classes)]
            for _ in begins
        ]

        def unit(u: Value) -> None:
            row = [
                lanes.spread(theta, lanes.offset((r, stride), u))
                for r in range(inputs + 1 + classes)
            ]
            for g in range(group):
                h = lanes.relu(_hidden(lanes, x[g], row[:inputs], row[inputs]))
                for c, out in enumerate(row[inputs + 1 :]):
                    lanes.put(lanes.fma(h, out, lanes.get(sums[g][c])), sums[g][c])

        lanes.repeat(width, unit)
        for g, begin in enumerate(begins):
            for c in range(classes):
                lanes.store(lanes.get(sums[g][c]), logits, lanes.offset((c, padded), begin))

    # Four vectors of points share each weight that is read, if the registers hold them.
    most = REGISTERS.total * 3 // 4
    groups = [g for g in (4, 2, 1) if g * (inputs + classes) <= most or g == 1]
    lanes.portions(points, groups, block)


_forward = emitting(_emit_forward, REGISTERS.parts)


def _hidden(lanes: Lanes, x: list[Vector], w: list[Vector], bias: Vector) -> Vector:
    """Value of hidden units before the ReLU; one order of operations for both passes."""
    h = bias
    for one, other in zip(x, w, strict=True):
        h = lanes.fma(one, other, h)
    return h


def _emit_backward(
    lanes: Lanes,
    kinds: Any,
    _dims: Value,
    X: Value,
    deltas: Value,
    kind: Value,
    coefficients: Value,
    theta: Value,
    first: Value,
    second: Value,
    stride: Value,
    padded: Value,
    points: Value,
) -> None:
    """Make the optimiser's step of W1, b1 and W2 in place, see `optimisers.State`.

    The lanes are hidden units; X (inputs, padded), deltas (classes, padded) ∂F/∂logits; `points`
    are gone through; `stride` is a multiple of the lanes, `kinds` tell inputs and classes.
    """
    inputs, classes = _lengths(kinds[0])
    state = State(kind, coefficients, theta, first, second)
    zero = lanes.constant(0.0)

    def units(begin: Value, vectors: int) -> None:
        places = [
            [lanes.offset((r, stride), begin, v * lanes.lanes) for r in range(inputs + 1 + classes)]
            for v in range(vectors)
        ]
        weights = [[lanes.load(state.theta, place) for place in row] for row in places]
        sums = [[lanes.variable(zero) for _ in row] for row in places]

        def point(p: Value) -> None:
            x = [lanes.spread(X, lanes.offset((d, padded), p)) for d in range(inputs)]
            delta = [lanes.spread(deltas, lanes.offset((c, padded), p)) for c in range(classes)]
            for v in range(vectors):
                into, bias = weights[v][:inputs], weights[v][inputs]
                out = weights[v][inputs + 1 :]
                h = _hidden(lanes, x, into, bias)
                active = lanes.compare(">", h, zero)
                h = lanes.select(active, h, zero)
                back = lanes.mul(delta[0], out[0])
                for c in range(1, classes):
                    back = lanes.fma(delta[c], out[c], back)
                back = lanes.select(active, back, zero)
                for d in range(inputs):
                    lanes.put(lanes.fma(x[d], back, lanes.get(sums[v][d])), sums[v][d])
                lanes.put(lanes.add(lanes.get(sums[v][inputs]), back), sums[v][inputs])
                for c in range(classes):
                    place = sums[v][inputs + 1 + c]
                    lanes.put(lanes.fma(h, delta[c], lanes.get(place)), place)

        lanes.repeat(points, point)

        def step(apply: Callable[[Parameter], None]) -> None:
            for v in range(vectors):
                for place, weight, total in zip(places[v], weights[v], sums[v], strict=True):
                    apply((place, weight, lanes.get(total)))

        emit_step(lanes, state, step, fused=True)

    together = [2, 1] if inputs + classes <= 5 and REGISTERS.total == 32 else [1]
    lanes.portions(stride, together, units)


_backward_step = emitting(_emit_backward, REGISTERS.parts)


def _passing(measuring: Any) -> Any:
    """Make the function that goes forward and measures into `sums`."""

    def go(dims: Any, base: Any, points: Any, network: Any, work: Any, gamma: Any) -> None:
        X, _, labels, groups, grouped, count, inverse = points
        theta, layers = network
        logits, bias, _, hits, sums = work
        sums[:] = 0.0
        bias[:] = 0.0
        padded, lanes = X.shape[1], bias.shape[1]
        through = (count + lanes - 1) // lanes * lanes
        _forward(dims, X, theta, logits, layers[0, 1], layers[0, 3], through, padded)
        given = labels, groups, grouped, gamma, inverse, through, padded, layers[1, 1]
        measuring(dims, base, logits, *given, bias, hits, sums)

    return go


evaluate = _passing(measure)
forward_backward = _passing(measure_and_differentiate)
"""As `evaluate`, and leave ∂F/∂logits in `logits` for `step`."""


def step(dims: Any, points: Any, network: Any, work: Any, optimiser: Any) -> None:
    """Make the optimiser's step along what the last `forward_backward` left."""
    X, count = points[0], points[5]
    theta, layers = network
    logits, bias, gradient, _, _ = work
    kind, coefficients, _, first, second = optimiser
    _backward_step(
        dims, X, logits, kind, coefficients, theta, first, second, layers[0, 3], X.shape[1], count
    )
    for c in range(bias.shape[0]):
        total = bias[c, 0]
        for lane in range(1, bias.shape[1]):
            total += bias[c, lane]
        gradient[c] = total
    at = layers[1, 4]
    step_along(gradient, kind, coefficients, theta[at:], first[at:], second[at:], gradient.shape[0])
