"""Tangent vectors taken along a training by the derivative of each update, in the narrow layout.

The derivative of the logits towards v and the product H v are Pearlmutter's (1994), as in
`tiltcli.curvature.hidden_layer`. Here they come from sums that need nothing but comparisons and
additions for each pair of hidden unit and point. A unit is open at a point or not, m = [w·x > 0]
with the bias in w; open, its value w·x and the derivative dw·x are linear in x, so that

    dz_c = Σ_k x_k Σ_units m (w_k dW2_c + dw_k W2_c) + db2_c,

and with d = ∂F/∂z, e its derivative, M_ck = Σ_points m x_k e_c and N_ck = Σ_points m x_k d_c

    (H v)(W2_c) = Σ_k w_k M_ck + dw_k N_ck,    (H v)(w_k) = Σ_c W2_c M_ck + dW2_c N_ck.

Over the classes d and e of the cross-entropy sum to zero, so that differences from the last class
are enough: its own sums are what is left.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from numba import njit

from tiltcli.engines import lanes as lanes_module
from tiltcli.engines import subnormals
from tiltcli.engines.base import Trail
from tiltcli.engines.lanes import REGISTERS, Lanes, Value, Vector, emitting
from tiltcli.engines.mlp.layout import zeros
from tiltcli.engines.mlp.logits import BASES
from tiltcli.engines.subnormals import flush_subnormals, restore_mode

if TYPE_CHECKING:
    from tiltcli.engines.mlp.kernel import FusedNetwork

MOST = 28
"""Vectors that stay in registers: sums, and the inputs that they are made of."""

TABLE = 20 << 10
"""Bytes of tables in use at once: they stay in the nearest cache."""


class _Writer:
    """Writes the code of the parts of an update, for sizes that the compiler knows.

    `kept` classes have sums of their own: all, or all but the last.
    """

    def __init__(self, lanes: Lanes, inputs: int, classes: int, kept: int) -> None:
        self.lanes, self.inputs, self.classes, self.kept = lanes, inputs, classes, kept
        self.K = inputs + 1

    def _rows(self, array: Value, rows: range, stride: Value, begin: Value) -> list[Vector]:
        at = self.lanes.offset
        return [self.lanes.load(array, at((r, stride), begin)) for r in rows]

    def terms(self, W: Value, V: Value, outs: Value, terms: Value, stride: Value) -> None:
        """W2 and its derivative, of the classes kept; what is summed over the units."""
        lanes, K = self.lanes, self.K

        def units(begin: Value, _: int) -> None:
            both = [self._rows(given, range(K + self.classes), stride, begin) for given in (W, V)]
            for c in range(self.kept):
                out, change = (
                    lanes.sub(one[K + c], one[-1]) if self.kept < self.classes else one[K + c]
                    for one in both
                )
                lanes.store(out, outs, lanes.offset((c, stride), begin))
                lanes.store(change, outs, lanes.offset((self.kept + c, stride), begin))
                for k in range(K):
                    term = lanes.fma(both[0][k], change, lanes.mul(both[1][k], out))
                    lanes.store(term, terms, lanes.offset((c * K + k, stride), begin))

        lanes.portions(stride, [1], units)

    def over_units(
        self,
        X: Value,
        W: Value,
        terms: Value,
        out: Value,
        masks: Value,
        distance: Value,
        stride: Value,
        width: Value,
    ) -> None:
        """Sum the terms over the units open at each point; `masks` keeps which points those are."""
        lanes, K, zero = self.lanes, self.K, self.lanes.constant(0.0)
        rows, length = range(self.kept * K), lanes.builder.sdiv(distance, lanes.at(lanes.lanes))

        def block(rows: range, start: Value, group: int) -> None:
            begins = [lanes.offset(start, g * lanes.lanes) for g in range(group)]
            own = [self._rows(X, range(K - 1), distance, begin) for begin in begins]
            sums = [[lanes.variable(zero) for _ in rows] for _ in begins]
            places = [lanes.builder.sdiv(begin, lanes.at(lanes.lanes)) for begin in begins]

            def one(u: Value) -> None:
                *into, bias = (lanes.spread(W, lanes.offset((k, stride), u)) for k in range(K))
                others = [lanes.spread(terms, lanes.offset((j, stride), u)) for j in rows]
                for x, totals, place in zip(own, sums, places, strict=True):
                    h = bias
                    for a, b in zip(x, into, strict=True):
                        h = lanes.fma(a, b, h)
                    is_open = lanes.compare(">", h, zero)
                    if rows[0] == 0:
                        at = lanes.builder.gep(masks, [lanes.offset((u, length), place)])
                        lanes.builder.store(lanes.bits(is_open), at)
                    for term, total in zip(others, totals, strict=True):
                        found = lanes.get(total)
                        lanes.put(lanes.select(is_open, lanes.add(found, term), found), total)

            lanes.repeat(width, one)
            for begin, totals in zip(begins, sums, strict=True):
                for j, total in zip(rows, totals, strict=True):
                    lanes.store(lanes.get(total), out, lanes.offset((j, distance), begin))

        most = MOST - K + 1
        for begin in range(0, len(rows), most):
            some = rows[begin : begin + most]
            fits = REGISTERS.total == 32 and 2 * (K - 1 + len(some)) <= MOST
            lanes.portions(distance, [2, 1] if fits else [1], partial(block, some))

    def over_points(
        self,
        F: Value,
        masks: Value,
        table: Value,
        sums: Value,
        out: Value,
        distance: Value,
        stride: Value,
        width: Value,
    ) -> None:
        """Sum the terms F over the points at which each unit is open, by tables.

        Of every four points the 16 sums there can be are made once, with terms in the lanes; a unit
        adds those that its mask names.
        """
        lanes, L, build, at = self.lanes, self.lanes.lanes, self.lanes.builder, self.lanes.at
        terms, zero, size = 2 * self.kept * self.K, lanes.constant(0.0), 4 * L * L
        length, most = build.sdiv(distance, at(L)), max(TABLE // (size * lanes.bytes), 1)

        for first in range(0, terms, L):
            rows = range(first, min(first + L, terms))

            def some_points(i: Value, rows: range = rows) -> None:
                begin = build.mul(i, at(most))
                left = build.sub(length, begin)
                count = build.select(build.icmp_signed("<", left, at(most)), left, at(most))

                def tabulate(b: Value) -> None:
                    block = self._rows(F, rows, distance, lanes.offset((begin, L), (b, L)))
                    points = lanes.transposed(block + [zero] * (L - len(block)))
                    for q in range(0, L, 4):
                        found = [zero]
                        for one in points[q : q + 4]:
                            found += [one, *(lanes.add(one, other) for other in found[1:])]
                        for n, one in enumerate(found):
                            lanes.store(one, table, lanes.offset((b, size), (4 * q + n) * L))

                def units(unit: Value, group: int) -> None:
                    lines = [lanes.offset(unit, g) for g in range(group)]
                    totals = [lanes.variable(lanes.load(sums, lanes.offset((u, L)))) for u in lines]

                    def add(b: Value) -> None:
                        for u, total in zip(lines, totals, strict=True):
                            place = build.gep(masks, [lanes.offset((u, length), begin, b)])
                            mask = build.zext(build.load(place), lanes.index)
                            found = []
                            for q in range(0, L, 4):
                                which = build.and_(build.lshr(mask, at(q)), at(15))
                                where = lanes.offset((b, size), (which, L), 4 * q * L)
                                found.append(lanes.load(table, where))
                            while len(found) > 1:
                                found = [
                                    lanes.add(*pair)
                                    for pair in zip(found[::2], found[1::2], strict=True)
                                ]
                            lanes.put(lanes.add(lanes.get(total), found[0]), total)

                    lanes.repeat(count, add)
                    for u, total in zip(lines, totals, strict=True):
                        lanes.store(lanes.get(total), sums, lanes.offset((u, L)))

                lanes.repeat(count, tabulate)
                lanes.portions(width, [4, 2, 1], units, size=1)

            def give(begin: Value, _: int, rows: range = rows) -> None:
                block = [lanes.offset((lanes.offset(begin, n), L)) for n in range(L)]
                turned = lanes.transposed([lanes.load(sums, place) for place in block])
                for place in block:
                    lanes.store(zero, sums, place)
                for r, one in zip(rows, turned, strict=False):
                    lanes.store(one, out, lanes.offset((r, stride), begin))

            rounds = build.sdiv(build.add(length, at(most - 1)), at(most))
            lanes.repeat(rounds, some_points)
            lanes.portions(stride, [1], give)

    def slopes(
        self,
        ahead: Value,
        X: Value,
        d: Value,
        labels: Value,
        groups: Value,
        grouped: Value,
        gamma: Value,
        inverse: Value,
        v: Value,
        given: Value,
        u: Value,
        padded: Value,
    ) -> None:
        """Derivative e of d = ∂F/∂z; what is summed over the points, and the last biases' in u."""
        lanes, K, zero = self.lanes, self.K, self.lanes.constant(0.0)
        totals = [lanes.variable(zero) for _ in range(self.classes)]

        def points(begin: Value, _: int) -> None:
            x = self._rows(X, range(self.inputs), padded, begin)
            slope = self._rows(d, range(self.classes), padded, begin)
            label, group = lanes.load(labels, begin), lanes.load(groups, begin)
            own = [
                lanes.compare("==", label, lanes.constant(float(c))) for c in range(self.classes)
            ]
            found = lanes.variable(zero)

            def weigh(number: Value) -> None:
                at = lanes.splat(lanes.builder.sitofp(number, lanes.scalar))
                factor, here = lanes.spread(gamma, number), lanes.compare("==", group, at)
                lanes.put(lanes.select(here, factor, lanes.get(found)), found)

            lanes.repeat(grouped, weigh)
            weight = lanes.mul(lanes.get(found), lanes.splat(inverse))
            dz = [lanes.spread(v, lanes.at(c)) for c in range(self.classes)]
            if self.kept < self.classes:
                dz = [*(lanes.sub(one, dz[-1]) for one in dz[:-1]), zero]
            for c in range(self.kept):
                sums = self._rows(ahead, range(c * K, c * K + K), padded, begin)
                dz[c] = lanes.add(dz[c], sums[-1])
                for one, other in zip(x, sums, strict=False):
                    dz[c] = lanes.fma(one, other, dz[c])
            if self.kept == self.classes:
                e = [lanes.mul(lanes.add(weight, weight), one) for one in dz]
            else:
                e = softmax(slope, dz, weight, own)
            for total, one in zip(totals, e, strict=True):
                lanes.put(lanes.add(lanes.get(total), one), total)
            for at, one in enumerate((*e[: self.kept], *slope[: self.kept])):
                for k, term in enumerate([*(lanes.mul(one, other) for other in x), one]):
                    lanes.store(term, given, lanes.offset((at * K + k, padded), begin))

        def softmax(
            slope: list[Vector], dz: list[Vector], weight: Vector, own: list[Vector]
        ) -> list[Vector]:
            # Probabilities p are d/weight but of the own class, from whose dz all are counted; its
            # e is what is left, which keeps its digits where p is near one.
            base, mean, rest = zero, zero, zero
            for mine, one in zip(own, dz, strict=True):
                base = lanes.select(mine, one, base)
            for mine, one, p in zip(own, dz, slope, strict=True):
                mean = lanes.fma(lanes.select(mine, zero, p), lanes.sub(one, base), mean)
            mean = lanes.div(mean, weight)
            mean = lanes.add(base, lanes.select(lanes.compare(">", weight, zero), mean, zero))
            found = []
            for mine, one, p in zip(own, dz, slope, strict=True):
                found.append(lanes.mul(lanes.select(mine, zero, p), lanes.sub(one, mean)))
                rest = lanes.sub(rest, found[-1])
            return [lanes.select(mine, rest, e) for mine, e in zip(own, found, strict=True)]

        lanes.portions(padded, [1], points)
        for c, total in enumerate(totals):
            place = lanes.builder.gep(u, [lanes.at(c)])
            lanes.builder.store(lanes.sum(lanes.get(total)), place)

    def product(
        self, W: Value, V: Value, outs: Value, back: Value, u: Value, stride: Value
    ) -> None:
        """H v but for the last biases, from the sums over the points."""
        lanes, K, kept, zero = self.lanes, self.K, self.kept, self.lanes.constant(0.0)

        def units(begin: Value, _: int) -> None:
            into = [self._rows(given, range(K), stride, begin) for given in (W, V)]
            out = self._rows(outs, range(2 * kept), stride, begin)
            found, rest = [zero] * (K + kept), zero
            for half, w in enumerate(into):
                for c in range(kept):
                    at = (half * kept + c) * K
                    for k, one in enumerate(self._rows(back, range(at, at + K), stride, begin)):
                        found[K + c] = lanes.fma(w[k], one, found[K + c])
                        found[k] = lanes.fma(out[half * kept + c], one, found[k])
            for one in found[K:]:
                rest = lanes.sub(rest, one)
            for r, one in enumerate([*found, rest][: K + self.classes]):
                lanes.store(one, u, lanes.offset((r, stride), begin))

        lanes.portions(stride, [1], units)


def _emitting(write: Callable[..., None]) -> Any:
    """Make an intrinsic of (sizes, arguments of the writer's method): see `_Writer`."""

    def emit(lanes: Lanes, kinds: Any, _sizes: Value, *given: Value) -> None:
        write(_Writer(lanes, *(len(one) for one in kinds[0].types)), *given)

    own, theirs = (list(inspect.signature(one).parameters.values()) for one in (emit, write))
    made: Any = emit
    made.__signature__ = inspect.Signature(own[:3] + theirs[1:])
    return emitting(emit, min(REGISTERS.parts, 2))  # tables are of four points each


_terms, _slopes = _emitting(_Writer.terms), _emitting(_Writer.slopes)
_product = _emitting(_Writer.product)
_over_units, _over_points = _emitting(_Writer.over_units), _emitting(_Writer.over_points)


MSE = BASES.index("mse")


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _step(
    v: Any, velocity: Any, u: Any, rate: Any, momentum: Any, nesterov: Any, decay: Any
) -> float:
    """Move v along u = H v as the optimiser does, and scale it to length 1; its length before."""
    total = v.dtype.type(0.0)
    for k in range(v.size):
        slope = u[k] + decay * v[k]
        if momentum != 0.0:
            velocity[k] = momentum * velocity[k] + slope
            total += velocity[k] * velocity[k]
            slope = slope + momentum * velocity[k] if nesterov else velocity[k]
        v[k] -= rate * slope
        total += v[k] * v[k]
    length = math.sqrt(total)
    scale = v.dtype.type(1.0 / length)
    for k in range(v.size):
        v[k] *= scale
        velocity[k] *= scale
    return length


def _compiled(sources: str) -> Any:
    @njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})
    def follow(
        sizes: Any,
        points: Any,
        shape: Any,
        trail: Any,
        slopes: Any,
        gammas: Any,
        rates: Any,
        rule: Any,
        vectors: Any,
        growth: Any,
    ) -> None:
        """Take the tangent vector through updates, ln of the factors by which it grows in `growth`.

        `sizes` are inputs, classes and classes kept, as the lengths of tuples; `points` as in
        `layout.Points.arrays`; `shape` hidden units, those with padding, and with the padding that
        the trail has; `rule` momentum, Nesterov's, decay; `vectors` (3, size) that of the
        parameters, of the velocity, and room for one; the rest as in `Trail`.
        """
        _ = sources
        X, _, labels, groups, _, count, inverse = points
        width, stride, theirs = shape
        momentum, nesterov, decay = rule
        inputs, classes, kept = len(sizes[0]), len(sizes[1]), len(sizes[2])
        rows, most = inputs + 1 + classes, (inputs + 1) * kept
        v, velocity, u = vectors[0], vectors[1], vectors[2]
        end, columns, theirs_columns = rows * stride, X.shape[1], slopes.shape[1] // classes
        W, outs = np.zeros((rows, stride), X.dtype), np.empty((2 * kept, stride), X.dtype)
        terms, back = np.empty((most, stride), X.dtype), np.empty((2 * most, stride), X.dtype)
        ahead, given = np.empty((most, columns), X.dtype), np.empty((2 * most, columns), X.dtype)
        d = np.zeros((classes, columns), X.dtype)
        masks, table = np.empty(width * columns // 4, np.uint16), np.empty(TABLE // 4, X.dtype)
        sums = np.zeros(16 * stride, X.dtype)
        mode = flush_subnormals()  # what dies out of the vector is zero
        for i in range(trail.shape[0]):
            for r in range(rows):
                for n in range(width):
                    W[r, n] = trail[i, r * theirs + n]
            for c in range(classes):
                for n in range(count):
                    d[c, n] = slopes[i, c * theirs_columns + n]
            _terms(sizes, W, v, outs, terms, stride)
            _over_units(sizes, X, W, terms, ahead, masks, columns, stride, width)
            weights = groups, gammas.shape[1], gammas[i], inverse
            _slopes(sizes, ahead, X, d, labels, *weights, v[end:], given, u[end:], columns)
            _over_points(sizes, given, masks, table, sums, back, columns, stride, width)
            _product(sizes, W, v, outs, back, u, stride)
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

    It shares the network's training points, in the narrow layout, and its dtype; with momentum it
    is of parameters and velocity.
    """

    def __init__(
        self, network: FusedNetwork, momentum: float, nesterov: bool, decay: float
    ) -> None:
        dims, base, points, layers, places, kind = network.layout
        classes = len(dims[1])
        sizes = *dims, (0,) * (classes if base == MSE else classes - 1)
        self._of = sizes, points
        self._width, self._stride = layers[0, [1, 3]].tolist()
        self._rule = kind.type(momentum), nesterov, kind.type(decay)
        self._vectors = zeros((3, int(layers[-1, 4]) + classes), kind)
        start = first_direction(places.size * (2 if momentum else 1))
        for row, part in zip(self._vectors, start.reshape(-1, places.size), strict=False):
            row[places] = part

    def grow(self, trail: Trail) -> npt.NDArray[np.float64]:
        """Take the updates that come next; ln of the factor by which each makes the vector grow."""
        kind, growth = self._vectors.dtype, np.empty(len(trail.rates))
        shape = self._width, self._stride, trail.places[self._width]
        gammas, rates = (np.asarray(given, kind) for given in (trail.gammas, trail.rates))
        given = shape, trail.rows, trail.slopes, gammas, rates, self._rule, self._vectors, growth
        follow(*self._of, *given)
        return growth


def first_direction(size: int) -> npt.NDArray[np.float64]:
    """Return the seeded unit vector that tangents begin with."""
    vector = np.random.default_rng(0).standard_normal(size)
    return np.asarray(vector / np.linalg.norm(vector))
