"""Softmax, cross-entropy and their gradient for all points at once, with points in the lanes."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from tiltcli.engines.lanes import Lanes, Value, Vector, addresses, intrinsic

GROUP = 4
"""Vectors of points handled side by side, so that one's latency hides behind the others'."""


def _softmax(with_gradient: bool) -> Any:
    """Make the intrinsic that measures, and with the gradient turns logits into deltas."""

    @intrinsic
    def softmax(
        _typing: Any,
        dims: Any,
        logits: Any,
        labels: Any,
        gammas: Any,
        inverse: Any,
        points: Any,
        stride: Any,
        classes: Any,
        bias: Any,
        sums: Any,
    ) -> Any:
        """Measure a stretch of points; see `look` in the modules that call this.

        Args:
            dims: (inputs, classes) as the lengths of two tuples, or () if not known beforehand.
            logits: (classes, stride); with the gradient, overwritten by ∂F/∂logits.
            labels: (stride,) class of each point as a float, −1 for padding.
            gammas: (classes,) Γ in the network's dtype.
            inverse: 1/P in the network's dtype.
            points: points to go through, a multiple of GROUP vectors.
            stride: points from one class's logits to the next's.
            classes: their number.
            bias: (classes, lanes) that ∂F/∂b2 is added to, lane by lane.
            sums: (3,) float64 that Σ loss, Σ Γ loss and the number right are added to.

        """
        signature = types.none(
            dims, logits, labels, gammas, inverse, points, stride, classes, bias, sums
        )
        known = len(dims.types[1]) if len(dims) else None

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lanes = Lanes(builder, signature.args[1].dtype)
            _, *rest = addresses(context, builder, signature, args)
            _emit(lanes, rest, known, with_gradient)
            return context.get_dummy_value()

        return signature, generate

    return softmax


def _emit(lanes: Lanes, args: list[Value], known: int | None, with_gradient: bool) -> None:
    logits, labels, gammas, inverse, points, stride, classes, bias, sums = args
    build, group = lanes.builder, range(GROUP)
    count = classes if known is None else known
    double = ir.DoubleType()
    static = lanes.variable(ir.Constant(lanes.double, [0.0] * lanes.lanes))
    dynamical = lanes.variable(ir.Constant(lanes.double, [0.0] * lanes.lanes))
    right = lanes.variable(ir.Constant(lanes.index, 0))
    zero = lanes.constant(0.0)

    def block(i: Value) -> None:
        begins = [lanes.offset((i, GROUP * lanes.lanes), g * lanes.lanes) for g in group]
        label = [lanes.load(labels, begin) for begin in begins]
        top = [lanes.variable(lanes.constant(float("-inf"))) for _ in group]
        guess = [lanes.variable(lanes.constant(-1.0)) for _ in group]

        def as_vector(c: Value) -> Vector:
            return lanes.splat(build.sitofp(c, lanes.scalar))

        def largest(c: Value) -> None:
            for g in group:
                z = lanes.load(logits, lanes.offset((c, stride), begins[g]))
                # Strictly larger: of equal logits the first class wins, as in argmax.
                better = lanes.compare(">", z, lanes.get(top[g]))
                lanes.put(lanes.select(better, z, lanes.get(top[g])), top[g])
                lanes.put(lanes.select(better, as_vector(c), lanes.get(guess[g])), guess[g])

        lanes.repeat(count, largest)
        total = [lanes.variable(zero) for _ in group]
        own = [lanes.variable(zero) for _ in group]
        weight = [lanes.variable(zero) for _ in group]

        def exponentials(c: Value) -> None:
            gamma = lanes.spread(gammas, c)
            for g in group:
                place = lanes.offset((c, stride), begins[g])
                z = lanes.sub(lanes.load(logits, place), lanes.get(top[g]))
                here = lanes.compare("==", label[g], as_vector(c))
                lanes.put(lanes.select(here, z, lanes.get(own[g])), own[g])
                lanes.put(lanes.select(here, gamma, lanes.get(weight[g])), weight[g])
                e = lanes.exp(z)
                lanes.put(lanes.add(lanes.get(total[g]), e), total[g])
                lanes.store(e, logits, place)

        lanes.repeat(count, exponentials)
        scale = []
        share = lanes.splat(inverse)
        for g in group:
            loss = lanes.sub(lanes.log(lanes.get(total[g])), lanes.get(own[g]))
            loss = lanes.select(lanes.compare(">=", label[g], zero), loss, zero)
            wide = lanes.as_double(loss)
            lanes.put(build.fadd(lanes.get(static), wide), static)
            gamma = lanes.get(weight[g])
            lanes.put(lanes.fma(lanes.as_double(gamma), wide, lanes.get(dynamical)), dynamical)
            hits = lanes.compare("==", label[g], lanes.get(guess[g]))
            hits = lanes.builder.and_(hits, lanes.compare(">=", label[g], zero))
            mask = build.bitcast(hits, ir.IntType(lanes.lanes))
            number = build.zext(build.ctpop(mask), lanes.index)
            lanes.put(build.add(lanes.get(right), number), right)
            if with_gradient:
                weight[g] = lanes.mul(gamma, share)
                scale.append(lanes.div(weight[g], lanes.get(total[g])))
        if not with_gradient:
            return

        def deltas(c: Value) -> None:
            place = lanes.offset((c, lanes.lanes))
            gradient = lanes.load(bias, place)
            for g in group:
                here = lanes.compare("==", label[g], as_vector(c))
                at = lanes.offset((c, stride), begins[g])
                delta = lanes.fma(
                    lanes.load(logits, at),
                    scale[g],
                    lanes.select(here, build.fneg(weight[g]), zero),
                )
                lanes.store(delta, logits, at)
                gradient = lanes.add(gradient, delta)
            lanes.store(gradient, bias, place)

        lanes.repeat(count, deltas)

    lanes.repeat(build.sdiv(points, lanes.at(GROUP * lanes.lanes)), block)
    found = (
        lanes.sum(lanes.get(static)),
        lanes.sum(lanes.get(dynamical)),
        build.sitofp(lanes.get(right), double),
    )
    for i, value in enumerate(found):
        place = build.gep(sums, [lanes.at(i)])
        build.store(build.fadd(build.load(place), value), place)


measure = _softmax(with_gradient=False)
measure_and_differentiate = _softmax(with_gradient=True)
