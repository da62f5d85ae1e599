"""Tangent vectors taken along a training by the derivative of each update, in the narrow layout.

The derivative of a logit in the direction v of the parameters goes forward with it, and what the
Hessian makes of v comes back (Pearlmutter 1994), see `tiltcli.curvature.hidden_layer`, whose
formulas these are; here with points or units in the lanes, as in `narrow`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from numba import njit, types

from tiltcli.engines import lanes as lanes_module
from tiltcli.engines import subnormals
from tiltcli.engines.base import Trail
from tiltcli.engines.lanes import REGISTERS, Lanes, Value, Vector, addresses, intrinsic
from tiltcli.engines.mlp.layout import padded, zeros
from tiltcli.engines.mlp.logits import BASES
from tiltcli.engines.subnormals import flush_subnormals, restore_mode

if TYPE_CHECKING:
    from tiltcli.engines.mlp.kernel import FusedNetwork


def _emitting(emit: Any) -> Any:
    """Make an intrinsic of (dims, an array, …) whose code `emit` writes, given inputs, classes."""

    @intrinsic
    def emitting(_typing: Any, dims: Any, rest: Any) -> Any:
        signature = types.none(dims, rest)
        sizes = len(dims.types[0]), len(dims.types[1])

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lanes = Lanes(builder, signature.args[1].types[0].dtype, REGISTERS.parts)
            parts = [builder.extract_value(args[1], i) for i in range(len(rest.types))]
            inner = types.none(*rest.types)
            emit(lanes, *sizes, *addresses(context, builder, inner, parts))
            return context.get_dummy_value()

        return signature, generate

    return emitting


def _weighted(lanes: Lanes, x: list[Vector], row: list[Vector]) -> Vector:
    """Bias plus Σ x w; the row has the weights and then the bias."""
    total = row[len(x)]
    for one, other in zip(x, row, strict=False):
        total = lanes.fma(one, other, total)
    return total


def _emit_forward(
    lanes: Lanes,
    inputs: int,
    classes: int,
    X: Value,
    theta: Value,
    v: Value,
    z: Value,
    dz: Value,
    width: Value,
    stride: Value,
    points: Value,
    padded: Value,
) -> None:
    """Logits z and their derivative dz towards v, (classes, padded)."""
    rows, zero = inputs + 1 + classes, lanes.constant(0.0)

    def block(start: Value, group: int) -> None:
        begins = [lanes.offset(start, g * lanes.lanes) for g in range(group)]
        x = [[lanes.load(X, lanes.offset((d, padded), b)) for d in range(inputs)] for b in begins]
        sums = [
            [
                lanes.variable(lanes.spread(given, lanes.offset((rows, stride), c)))
                for given in (theta, v)
                for c in range(classes)
            ]
            for _ in begins
        ]

        def unit(u: Value) -> None:
            w, dw = (
                [lanes.spread(given, lanes.offset((r, stride), u)) for r in range(rows)]
                for given in (theta, v)
            )
            for g in range(group):
                h, dh = _weighted(lanes, x[g], w), _weighted(lanes, x[g], dw)
                active = lanes.compare(">", h, zero)
                h, dh = lanes.select(active, h, zero), lanes.select(active, dh, zero)
                for c in range(classes):
                    out, change = w[inputs + 1 + c], dw[inputs + 1 + c]
                    total, tangent = sums[g][c], sums[g][classes + c]
                    lanes.put(lanes.fma(h, out, lanes.get(total)), total)
                    both = lanes.fma(h, change, lanes.get(tangent))
                    lanes.put(lanes.fma(dh, out, both), tangent)

        lanes.repeat(width, unit)
        for g, begin in enumerate(begins):
            for c in range(classes):
                place = lanes.offset((c, padded), begin)
                lanes.store(lanes.get(sums[g][c]), z, place)
                lanes.store(lanes.get(sums[g][classes + c]), dz, place)

    groups = [2, 1] if REGISTERS.total == 32 and inputs + 2 * classes <= 10 else [1]
    lanes.portions(points, groups, block)


def _emit_slopes(
    lanes: Lanes,
    inputs: int,
    classes: int,
    z: Value,
    dz: Value,
    u: Value,
    labels: Value,
    groups: Value,
    grouped: Value,
    gamma: Value,
    inverse: Value,
    squared: Value,
    stride: Value,
    points: Value,
    padded: Value,
) -> None:
    """Turn z into d = ∂F/∂z and dz into its derivative e; what e sums to is the biases' in u."""
    zero, build = lanes.constant(0.0), lanes.builder
    sums = [lanes.variable(zero) for _ in range(classes)]
    share = lanes.splat(inverse)

    def block(start: Value, _: int) -> None:
        places = [lanes.offset((c, padded), start) for c in range(classes)]
        logits = [lanes.load(z, place) for place in places]
        change = [lanes.load(dz, place) for place in places]
        label, group = lanes.load(labels, start), lanes.load(groups, start)
        found = lanes.variable(zero)

        def weigh(number: Value) -> None:
            here = lanes.compare("==", group, lanes.splat(build.sitofp(number, lanes.scalar)))
            lanes.put(lanes.select(here, lanes.spread(gamma, number), lanes.get(found)), found)

        lanes.repeat(grouped, weigh)
        weight = lanes.mul(lanes.get(found), share)
        own = [lanes.compare("==", label, lanes.constant(float(c))) for c in range(classes)]

        def store(slopes: list[Vector], changes: list[Vector]) -> None:
            for c, place in enumerate(places):
                lanes.store(slopes[c], z, place)
                lanes.store(changes[c], dz, place)
                lanes.put(lanes.add(lanes.get(sums[c]), changes[c]), sums[c])

        with build.if_else(squared) as (yes, no):
            with yes:
                twice, one = lanes.add(weight, weight), lanes.constant(1.0)
                errors = [
                    lanes.sub(logit, lanes.select(mine, one, zero))
                    for logit, mine in zip(logits, own, strict=True)
                ]
                store([lanes.mul(twice, e) for e in errors], [lanes.mul(twice, t) for t in change])
            with no:
                top = logits[0]
                for logit in logits[1:]:
                    top = lanes.select(lanes.compare(">", logit, top), logit, top)
                p = [lanes.exp(lanes.sub(logit, top)) for logit in logits]
                total = p[0]
                for one in p[1:]:
                    total = lanes.add(total, one)
                p = [lanes.div(one, total) for one in p]
                mean = lanes.mul(p[0], change[0])
                for one, other in zip(p[1:], change[1:], strict=True):
                    mean = lanes.fma(one, other, mean)
                slopes = [lanes.mul(weight, one) for one in p]
                changes = [
                    lanes.mul(one, lanes.sub(other, mean))
                    for one, other in zip(slopes, change, strict=True)
                ]
                # Both sum to zero over the classes: that of the own class is what is left, which
                # keeps its digits where its probability is near one.
                for parts in (slopes, changes):
                    rest = zero
                    for part, mine in zip(parts, own, strict=True):
                        rest = lanes.sub(rest, lanes.select(mine, zero, part))
                    parts[:] = [lanes.select(m, rest, p) for m, p in zip(own, parts, strict=True)]
                store(slopes, changes)

    lanes.portions(points, [1], block)
    last = lanes.offset((inputs + 1 + classes, stride))
    for c in range(classes):
        build.store(lanes.sum(lanes.get(sums[c])), build.gep(u, [lanes.offset(last, c)]))


def _emit_back(
    lanes: Lanes,
    inputs: int,
    classes: int,
    X: Value,
    d: Value,
    e: Value,
    theta: Value,
    v: Value,
    u: Value,
    stride: Value,
    padded: Value,
    points: Value,
) -> None:
    """Product u = H v but for the last biases."""
    rows, zero = inputs + 1 + classes, lanes.constant(0.0)

    def units(begin: Value, _: int) -> None:
        places = [lanes.offset((r, stride), begin) for r in range(rows)]
        w, dw = ([lanes.load(given, place) for place in places] for given in (theta, v))
        sums = [lanes.variable(zero) for _ in places]

        def add(value: Vector, factor: Vector, to: Value) -> None:
            lanes.put(lanes.fma(value, factor, lanes.get(to)), to)

        def point(p: Value) -> None:
            x = [lanes.spread(X, lanes.offset((k, padded), p)) for k in range(inputs)]
            slope, change = (
                [lanes.spread(given, lanes.offset((c, padded), p)) for c in range(classes)]
                for given in (d, e)
            )
            h, dh = _weighted(lanes, x, w), _weighted(lanes, x, dw)
            active = lanes.compare(">", h, zero)
            h, dh = lanes.select(active, h, zero), lanes.select(active, dh, zero)
            back = zero
            for c in range(classes):
                at = inputs + 1 + c
                add(h, change[c], sums[at])
                add(dh, slope[c], sums[at])
                back = lanes.fma(change[c], w[at], lanes.fma(slope[c], dw[at], back))
            back = lanes.select(active, back, zero)
            for k in range(inputs):
                add(x[k], back, sums[k])
            lanes.put(lanes.add(lanes.get(sums[inputs]), back), sums[inputs])

        lanes.repeat(points, point)
        for place, total in zip(places, sums, strict=True):
            lanes.store(lanes.get(total), u, place)

    lanes.portions(stride, [1], units)


_forward, _slopes, _back = _emitting(_emit_forward), _emitting(_emit_slopes), _emitting(_emit_back)


MSE = BASES.index("mse")


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _step(
    v: Any, velocity: Any, u: Any, rate: Any, momentum: Any, nesterov: Any, decay: Any
) -> float:
    """Move v along u = H v as the optimiser does, and scale it to length 1; its length before."""
    total = v.dtype.type(0.0)
    for k in range(v.size):
        slope = u[k] + decay * v[k]
        velocity[k] = momentum * velocity[k] + slope
        v[k] -= rate * (slope + momentum * velocity[k] if nesterov else velocity[k])
        total += v[k] * v[k]
    if momentum != 0.0:
        for k in range(v.size):
            total += velocity[k] * velocity[k]
    length = math.sqrt(total)
    scale = v.dtype.type(1.0 / length)
    for k in range(v.size):
        v[k] *= scale
        velocity[k] *= scale
    return length


def _compiled(sources: str) -> Any:
    @njit(cache=True, nogil=True, error_model="numpy")
    def follow(
        dims: Any,
        base: Any,
        points: Any,
        width: Any,
        stride: Any,
        trail: Any,
        gammas: Any,
        rates: Any,
        rule: Any,
        vectors: Any,
        work: Any,
        growth: Any,
    ) -> None:
        """Take the tangent vector through updates.

        Args:
            dims: (inputs, classes) as the lengths of two tuples.
            base: place in `logits.BASES`.
            points: as in `layout.Points.arrays`.
            width: hidden units.
            stride: with padding.
            trail: (updates, size) parameters before each.
            gammas: (updates, groups).
            rates: (updates,).
            rule: (momentum, Nesterov's, decay).
            vectors: (3, size) that of the parameters, of the velocity, and room for one.
            work: (2, classes, padded).
            growth: (updates,) float64, becomes ln of the factor by which the vector grew.

        """
        _ = sources
        X, _, labels, groups, _, count, inverse = points
        momentum, nesterov, decay = rule
        v, velocity, u = vectors[0], vectors[1], vectors[2]
        columns = X.shape[1]
        mode = flush_subnormals()  # what dies out of the vector is zero
        for i in range(trail.shape[0]):
            theta = trail[i]
            z, dz = work[0], work[1]
            _forward(dims, (X, theta, v, z, dz, width, stride, columns, columns))
            weights = groups, gammas.shape[1], gammas[i], inverse
            _slopes(dims, (z, dz, u, labels, *weights, base == MSE, stride, columns, columns))
            _back(dims, (X, z, dz, theta, v, u, stride, columns, count))
            length = _step(v, velocity, u, rates[i], momentum, nesterov, decay)
            growth[i] = math.log(length) if length > 0.0 else -np.inf
            if not (length > 0.0 and length < np.inf):
                growth[i:] = growth[i]
                break
        restore_mode(mode)

    return follow


follow = _compiled(lanes_module.digest(lanes_module, subnormals))


class Tangents:
    """A tangent vector of a training, from a seeded random direction on.

    All in the network's dtype.

    Args:
        network: whose layout and training points it shares; in the narrow layout.
        momentum: of the optimiser; with it the vector is of parameters and velocity.
        nesterov: whether it looks ahead.
        decay: weight decay.

    """

    def __init__(
        self, network: FusedNetwork, momentum: float, nesterov: bool, decay: float
    ) -> None:
        dims, base, points, layers, self._places, kind = network.layout
        self._kind = kind
        width, stride = layers[0, 1], layers[0, 3]
        self._of = dims, base, points, width, stride
        self._rule = kind.type(momentum), nesterov, kind.type(decay)
        self._size = int(layers[-1, 4] + padded(int(layers[-1, 1]), kind))
        self._vectors = zeros((3, self._size), kind)
        start = first_direction(self._places.size * (2 if momentum else 1))
        for row, part in zip(self._vectors, start.reshape(-1, self._places.size), strict=False):
            row[self._places] = part
        self._work = zeros((2, int(layers[-1, 1]), points[0].shape[1]), kind)

    def grow(self, trail: Trail) -> npt.NDArray[np.float64]:
        """Take the updates that come next; ln of the factor by which each makes the vector grow."""
        rows = np.zeros((len(trail.thetas), self._size), self._kind)
        rows[:, self._places] = trail.thetas
        growth = np.empty(len(rows))
        gammas, rates = (np.asarray(given, self._kind) for given in (trail.gammas, trail.rates))
        follow(*self._of, rows, gammas, rates, self._rule, self._vectors, self._work, growth)
        return growth


def first_direction(size: int) -> npt.NDArray[np.float64]:
    """Return the seeded unit vector that tangents begin with."""
    vector = np.random.default_rng(0).standard_normal(size)
    return np.asarray(vector / np.linalg.norm(vector))
