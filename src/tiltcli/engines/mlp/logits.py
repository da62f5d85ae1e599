"""Losses of logits and their gradient for all points at once, with points in the lanes."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from tiltcli.engines.lanes import Lanes, Value, Vector, emitting

BASES = ("cross_entropy", "mse")
"""Base losses; the kernel is given one by its place here."""

GROUP = 4
"""Vectors of points handled side by side, so that one's latency hides behind the others'."""


class _CrossEntropy:
    """Loss of a vector of points, class by class; then its slopes."""

    def __init__(self, lanes: Lanes, top: Vector) -> None:
        self._lanes, self._top = lanes, top
        self._total, self._own = (lanes.variable(lanes.constant(0.0)) for _ in range(2))
        self._scale: Vector = None

    def see(self, z: Vector, here: Vector) -> Vector:
        """Take a class's logits, and where it is the points' own; what to keep of them."""
        lanes = self._lanes
        z = lanes.sub(z, self._top)
        lanes.put(lanes.select(here, z, lanes.get(self._own)), self._own)
        e = lanes.exp(z)
        lanes.put(lanes.add(lanes.get(self._total), e), self._total)
        return e

    def loss(self) -> Vector:
        """Loss, after all classes."""
        lanes = self._lanes
        return lanes.sub(lanes.log(lanes.get(self._total)), lanes.get(self._own))

    def weigh(self, weight: Vector) -> None:
        """Take the weights, Γ/P."""
        self._scale = self._lanes.div(weight, self._lanes.get(self._total))

    def slope(self, kept: Vector, weight: Vector, here: Vector) -> Vector:
        """∂F/∂z of a class."""
        lanes = self._lanes
        own = lanes.select(here, lanes.builder.fneg(weight), lanes.constant(0.0))
        return lanes.fma(kept, self._scale, own)


class _Squares:
    """Squared distance to the one-hot target, with the methods of `_CrossEntropy`."""

    def __init__(self, lanes: Lanes, _top: Vector) -> None:
        self._lanes = lanes
        self._total = lanes.variable(lanes.constant(0.0))
        self._scale: Vector = None

    def see(self, z: Vector, here: Vector) -> Vector:
        lanes = self._lanes
        error = lanes.sub(z, lanes.select(here, lanes.constant(1.0), lanes.constant(0.0)))
        lanes.put(lanes.fma(error, error, lanes.get(self._total)), self._total)
        return error

    def loss(self) -> Vector:
        return self._lanes.get(self._total)

    def weigh(self, weight: Vector) -> None:
        self._scale = self._lanes.add(weight, weight)

    def slope(self, kept: Vector, _weight: Vector, _here: Vector) -> Vector:
        return self._lanes.mul(kept, self._scale)


def _emit(
    lanes: Lanes,
    base: type[_CrossEntropy | _Squares],
    with_gradient: bool,
    count: Value | int,
    logits: Value,
    labels: Value,
    groups: Value,
    grouped: Value,
    gammas: Value,
    inverse: Value,
    points: Value,
    stride: Value,
    bias: Value,
    right_ones: Value,
    sums: Value,
) -> None:
    build = lanes.builder
    double = ir.DoubleType()
    static = lanes.variable(ir.Constant(lanes.double, [0.0] * lanes.lanes))
    dynamical = lanes.variable(ir.Constant(lanes.double, [0.0] * lanes.lanes))
    right = lanes.variable(ir.Constant(lanes.index, 0))
    zero = lanes.constant(0.0)

    def block(start: Value, size: int) -> None:
        side_by_side = range(size)
        begins = [lanes.offset(start, g * lanes.lanes) for g in side_by_side]
        label = [lanes.load(labels, begin) for begin in begins]
        top = [lanes.variable(lanes.constant(float("-inf"))) for _ in side_by_side]
        guess = [lanes.variable(lanes.constant(-1.0)) for _ in side_by_side]

        def as_vector(c: Value) -> Vector:
            return lanes.splat(build.sitofp(c, lanes.scalar))

        def largest(c: Value) -> None:
            for g in side_by_side:
                z = lanes.load(logits, lanes.offset((c, stride), begins[g]))
                # Strictly larger: of equal logits the first class wins, as in argmax.
                better = lanes.compare(">", z, lanes.get(top[g]))
                lanes.put(lanes.select(better, z, lanes.get(top[g])), top[g])
                lanes.put(lanes.select(better, as_vector(c), lanes.get(guess[g])), guess[g])

        lanes.repeat(count, largest)
        loss_of = [base(lanes, lanes.get(top[g])) for g in side_by_side]
        weight = [lanes.variable(zero) for _ in side_by_side]

        def see(c: Value) -> None:
            gamma = lanes.spread(gammas, c)
            for g in side_by_side:
                place = lanes.offset((c, stride), begins[g])
                here = lanes.compare("==", label[g], as_vector(c))
                lanes.put(lanes.select(here, gamma, lanes.get(weight[g])), weight[g])
                kept = loss_of[g].see(lanes.load(logits, place), here)
                lanes.store(kept, logits, place)

        lanes.repeat(count, see)

        def regroup(c: Value) -> None:
            gamma = lanes.spread(gammas, c)
            for g in side_by_side:
                here = lanes.compare("==", lanes.load(groups, begins[g]), as_vector(c))
                lanes.put(lanes.select(here, gamma, lanes.get(weight[g])), weight[g])

        lanes.repeat(grouped, regroup)
        weights = []
        share = lanes.splat(inverse)
        for g in side_by_side:
            there = lanes.compare(">=", label[g], zero)
            wide = lanes.as_double(lanes.select(there, loss_of[g].loss(), zero))
            lanes.put(build.fadd(lanes.get(static), wide), static)
            gamma = lanes.get(weight[g])
            lanes.put(lanes.fma(lanes.as_double(gamma), wide, lanes.get(dynamical)), dynamical)
            hits = lanes.compare("==", label[g], lanes.get(guess[g]))
            hits = build.and_(hits, there)
            lanes.store(lanes.select(hits, lanes.constant(1.0), zero), right_ones, begins[g])
            mask = build.bitcast(hits, ir.IntType(lanes.lanes))
            number = build.zext(build.ctpop(mask), lanes.index)
            lanes.put(build.add(lanes.get(right), number), right)
            if with_gradient:
                weights.append(lanes.mul(gamma, share))
                loss_of[g].weigh(weights[g])
        if not with_gradient:
            return

        def deltas(c: Value) -> None:
            place = lanes.offset((c, lanes.lanes))
            gradient = lanes.load(bias, place)
            for g in side_by_side:
                here = lanes.compare("==", label[g], as_vector(c))
                at = lanes.offset((c, stride), begins[g])
                delta = loss_of[g].slope(lanes.load(logits, at), weights[g], here)
                lanes.store(delta, logits, at)
                gradient = lanes.add(gradient, delta)
            lanes.store(gradient, bias, place)

        lanes.repeat(count, deltas)

    lanes.portions(points, (GROUP, 1), block)
    found = (
        lanes.sum(lanes.get(static)),
        lanes.sum(lanes.get(dynamical)),
        build.sitofp(lanes.get(right), double),
    )
    for i, value in enumerate(found):
        place = build.gep(sums, [lanes.at(i)])
        build.store(build.fadd(build.load(place), value), place)


def _measuring(with_gradient: bool) -> Any:
    """Make the intrinsic that measures, and with the gradient turns logits into deltas."""

    def emit(
        lanes: Lanes,
        kinds: Any,
        _dims: Value,
        base: Value,
        logits: Value,
        labels: Value,
        groups: Value,
        grouped: Value,
        gammas: Value,
        inverse: Value,
        points: Value,
        stride: Value,
        classes: Value,
        bias: Value,
        hits: Value,
        sums: Value,
    ) -> None:
        """Measure a stretch of points, the lanes: so many, a multiple of the lanes.

        `kinds[0]` is that of (inputs, classes) as the lengths of two tuples, or of (). With the
        gradient, logits (classes, stride) become ∂F/∂logits. labels and groups (stride) are floats,
        −1 for padding; `grouped` is the number of groups, 0 where they are the classes; gammas
        (groups) and inverse, 1/P, in the network's dtype. To bias (classes, lanes) ∂F/∂b of the
        last layer is added, lane by lane; hits (stride) become 1 where a point is classified right;
        to sums (3) float64 Σ loss, Σ Γ loss and the number right are added.
        """
        count = len(kinds[0].types[1]) if len(kinds[0]) else classes
        given = logits, labels, groups, grouped, gammas, inverse, points, stride, bias, hits, sums
        squared = lanes.builder.icmp_signed("==", base, lanes.at(BASES.index("mse")))
        with lanes.builder.if_else(squared) as (yes, no):
            with yes:
                _emit(lanes, _Squares, with_gradient, count, *given)
            with no:
                _emit(lanes, _CrossEntropy, with_gradient, count, *given)

    return emitting(emit)


measure = _measuring(with_gradient=False)
measure_and_differentiate = _measuring(with_gradient=True)
