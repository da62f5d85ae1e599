"""Forward and backward pass where inputs and classes are few: everything of a unit in registers.

Forward has points in the lanes and goes over the hidden units; each weight is read once for a
group of points. Backward has hidden units in the lanes and goes over the points: weights and
gradient sums of a vector of units stay in registers, the hidden value is computed again rather than
stored, and the update is made at the end, so that no gradient ever reaches memory.
"""

from __future__ import annotations

from typing import Any

from numba import types

from tiltcli.engines.lanes import REGISTERS, Lanes, Value, Vector, addresses, intrinsic
from tiltcli.engines.softmax import measure, measure_and_differentiate

LARGEST = 12
"""Inputs + classes up to which this layout is used: beyond, registers spill."""


def _lengths(dims: Any) -> tuple[int, int]:
    # The numbers travel as lengths of tuples: they are part of the type, so the compiler knows
    # them, and the compiled code is cached by type.
    return len(dims.types[0]), len(dims.types[1])


@intrinsic
def forward(
    _typing: Any,
    dims: Any,
    X: Any,
    W1: Any,
    b1: Any,
    W2: Any,
    b2: Any,
    logits: Any,
    width: Any,
    stride: Any,
    padded: Any,
) -> Any:
    """Compute logits = relu(x W1 + b1) W2 + b2.

    Args:
        dims: (inputs, classes) as the lengths of two tuples.
        X: (inputs, padded) points in the lanes.
        W1: (inputs, stride).
        b1: (stride,).
        W2: (classes, stride).
        b2: (classes,).
        logits: (classes, padded), the result.
        width: hidden units.
        stride: hidden units with padding.
        padded: points with padding.

    """
    signature = types.none(dims, X, W1, b1, W2, b2, logits, width, stride, padded)
    inputs, classes = _lengths(dims)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = Lanes(builder, signature.args[1].dtype, REGISTERS.parts)
        _, *rest = addresses(context, builder, signature, args)
        _emit_forward(lanes, rest, inputs, classes)
        return context.get_dummy_value()

    return signature, generate


def _emit_forward(lanes: Lanes, args: list[Value], inputs: int, classes: int) -> None:
    X, W1, b1, W2, b2, logits, width, stride, padded = args
    # Four vectors of points share each weight that is read, if the registers hold them.
    most = REGISTERS.total * 3 // 4
    group = next(g for g in (4, 2, 1) if g * (inputs + classes) <= most or g == 1)

    def block(i: Value) -> None:
        begins = [lanes.offset((i, group * lanes.lanes), g * lanes.lanes) for g in range(group)]
        x = [
            [lanes.load(X, lanes.offset((d, padded), begin)) for d in range(inputs)]
            for begin in begins
        ]
        sums = [
            [lanes.variable(lanes.spread(b2, lanes.at(c))) for c in range(classes)] for _ in begins
        ]

        def unit(u: Value) -> None:
            into = [lanes.spread(W1, lanes.offset((d, stride), u)) for d in range(inputs)]
            bias = lanes.spread(b1, u)
            out = [lanes.spread(W2, lanes.offset((c, stride), u)) for c in range(classes)]
            for g in range(group):
                h = _hidden(lanes, x[g], into, bias)
                h = lanes.relu(h)
                for c in range(classes):
                    lanes.put(lanes.fma(h, out[c], lanes.get(sums[g][c])), sums[g][c])

        lanes.repeat(width, unit)
        for g, begin in enumerate(begins):
            for c in range(classes):
                lanes.store(lanes.get(sums[g][c]), logits, lanes.offset((c, padded), begin))

    lanes.repeat(lanes.builder.sdiv(padded, lanes.at(group * lanes.lanes)), block)


def _hidden(lanes: Lanes, x: list[Vector], w: list[Vector], bias: Vector) -> Vector:
    """Value of hidden units before the ReLU; one order of operations for both passes."""
    h = bias
    for one, other in zip(x, w, strict=True):
        h = lanes.fma(one, other, h)
    return h


@intrinsic
def backward(
    _typing: Any,
    dims: Any,
    X: Any,
    deltas: Any,
    W1: Any,
    b1: Any,
    W2: Any,
    rate: Any,
    stride: Any,
    padded: Any,
    points: Any,
) -> Any:
    """Make the update of W1, b1 and W2 in place.

    Args:
        dims: (inputs, classes) as the lengths of two tuples.
        X: (inputs, padded).
        deltas: (classes, padded) ∂F/∂logits.
        W1: (inputs, stride).
        b1: (stride,).
        W2: (classes, stride).
        rate: learning rate, in the network's dtype.
        stride: hidden units with padding, a multiple of the lanes.
        padded: points with padding.
        points: points without.

    """
    signature = types.none(dims, X, deltas, W1, b1, W2, rate, stride, padded, points)
    inputs, classes = _lengths(dims)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = Lanes(builder, signature.args[1].dtype, REGISTERS.parts)
        _, *rest = addresses(context, builder, signature, args)
        _emit_backward(lanes, rest, inputs, classes)
        return context.get_dummy_value()

    return signature, generate


def _emit_backward(lanes: Lanes, args: list[Value], inputs: int, classes: int) -> None:
    X, deltas, W1, b1, W2, rate, stride, padded, points = args
    build = lanes.builder
    zero = lanes.constant(0.0)
    step = lanes.splat(build.fneg(rate))

    def units(begin: Value, vectors: int) -> None:
        begins = [lanes.offset(begin, v * lanes.lanes) for v in range(vectors)]
        places = [
            [(W1, lanes.offset((d, stride), at)) for d in range(inputs)]
            + [(b1, at)]
            + [(W2, lanes.offset((c, stride), at)) for c in range(classes)]
            for at in begins
        ]
        weights = [[lanes.load(*place) for place in row] for row in places]
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
        for v in range(vectors):
            for place, weight, total in zip(places[v], weights[v], sums[v], strict=True):
                lanes.store(lanes.fma(step, lanes.get(total), weight), *place)

    together = 2 if inputs + classes <= 5 and REGISTERS.total == 32 else 1
    count = build.sdiv(stride, lanes.at(lanes.lanes))
    pairs = build.sdiv(count, lanes.at(together))
    lanes.repeat(pairs, lambda i: units(lanes.offset((i, together * lanes.lanes)), together))
    if together > 1:
        done = build.mul(pairs, lanes.at(together))
        left = build.sub(count, done)
        lanes.repeat(left, lambda i: units(lanes.offset((build.add(done, i), lanes.lanes)), 1))


def look(dims: Any, points: Any, network: Any, work: Any, gamma: Any) -> None:
    """Go forward, measure into `sums`, and leave ∂F/∂logits in `logits` for `move`."""
    X, _, labels, _, inverse = points
    W1, b1, W2, b2, width = network
    logits, bias, sums = work
    sums[:] = 0.0
    bias[:] = 0.0
    padded = X.shape[1]
    forward(dims, X, W1, b1, W2, b2, logits, width, b1.shape[0], padded)
    measure_and_differentiate(
        dims, logits, labels, gamma, inverse, padded, padded, b2.shape[0], bias, sums
    )


def move(dims: Any, points: Any, network: Any, work: Any, rate: Any) -> None:
    """Update the network along what the last `look` left."""
    X, _, _, count, _ = points
    W1, b1, W2, b2, _ = network
    logits, bias, _ = work
    backward(dims, X, logits, W1, b1, W2, rate, b1.shape[0], X.shape[1], count)
    for c in range(b2.shape[0]):
        total = bias[c, 0]
        for lane in range(1, bias.shape[1]):
            total += bias[c, lane]
        b2[c] -= rate * total


def score(dims: Any, points: Any, network: Any, work: Any, gamma: Any) -> None:
    """Go forward and measure into `sums`."""
    X, _, labels, _, inverse = points
    W1, b1, W2, b2, width = network
    logits, bias, sums = work
    sums[:] = 0.0
    padded = X.shape[1]
    forward(dims, X, W1, b1, W2, b2, logits, width, b1.shape[0], padded)
    measure(dims, logits, labels, gamma, inverse, padded, padded, b2.shape[0], bias, sums)
