"""Small matrix products and what goes with them, for the tiled layout.

All products are one small matrix product with a block of the result in registers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types
from numba.extending import register_jitable

from tiltcli.engines.lanes import REGISTERS, Lanes, Value, Vector, addresses, intrinsic

ROWS = (6, 2, 1)
VECTORS = (4, 3, 2, 1) if REGISTERS.total == 32 else (2, 1)
"""Blocks of a product held in registers: rows and vectors of columns; small ones for the rest."""


@intrinsic
def _affine(
    _typing: Any,
    out: Any,
    A: Any,
    B: Any,
    bias: Any,
    bias_step: Any,
    least: Any,
    m: Any,
    n: Any,
    k: Any,
    a_row: Any,
    a_column: Any,
    b_row: Any,
    out_row: Any,
) -> Any:
    signature = types.none(
        out, A, B, bias, bias_step, least, m, n, k, a_row, a_column, b_row, out_row
    )

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = Lanes(builder, signature.args[0].dtype, REGISTERS.parts)
        out, A, B, bias, bias_step, least, *sizes = addresses(context, builder, signature, args)
        floor = lanes.splat(least)

        def start(line: Value, _: Value) -> Vector:
            return lanes.spread(bias, lanes.offset((line, bias_step)))

        def end(value: Vector) -> Vector:
            return lanes.select(lanes.compare("<", value, floor), floor, value)

        _emit_product(lanes, out, A, B, start, end, sizes)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _accumulate(
    _typing: Any,
    out: Any,
    A: Any,
    B: Any,
    m: Any,
    n: Any,
    k: Any,
    a_row: Any,
    a_column: Any,
    b_row: Any,
    out_row: Any,
) -> Any:
    signature = types.none(out, A, B, m, n, k, a_row, a_column, b_row, out_row)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = Lanes(builder, signature.args[0].dtype, REGISTERS.parts)
        out, A, B, *sizes = addresses(context, builder, signature, args)
        _emit_product(
            lanes, out, A, B, lambda _, place: lanes.load(out, place), lambda value: value, sizes
        )
        return context.get_dummy_value()

    return signature, generate


def _emit_product(
    lanes: Lanes,
    out: Value,
    A: Value,
    B: Value,
    start: Callable[[Value, Value], Vector],
    end: Callable[[Vector], Vector],
    sizes: list[Value],
) -> None:
    """Write out[i, j] = end(start(i, place of out[i, j]) + Σ_k A[i, k] B[k, j])."""
    m, n, k, a_row, a_column, b_row, out_row = sizes

    def block(row: Value, column: Value, rows: int, vectors: int) -> None:
        lines = [lanes.offset(row, r) for r in range(rows)]
        columns = [lanes.offset(column, v * lanes.lanes) for v in range(vectors)]
        places = [[lanes.offset((line, out_row), at) for at in columns] for line in lines]
        sums = [
            [lanes.variable(start(line, place)) for place in row_places]
            for line, row_places in zip(lines, places, strict=True)
        ]

        def term(i: Value) -> None:
            right = [lanes.load(B, lanes.offset((i, b_row), at)) for at in columns]
            for line, row_sums in zip(lines, sums, strict=True):
                left = lanes.spread(A, lanes.offset((line, a_row), (i, a_column)))
                for total, factor in zip(row_sums, right, strict=True):
                    lanes.put(lanes.fma(left, factor, lanes.get(total)), total)

        lanes.repeat(k, term)
        for row_sums, row_places in zip(sums, places, strict=True):
            for total, place in zip(row_sums, row_places, strict=True):
                lanes.store(end(lanes.get(total)), out, place)

    def strip(row: Value, rows: int) -> None:
        lanes.portions(n, VECTORS, lambda column, vectors: block(row, column, rows, vectors))

    lanes.portions(m, ROWS, strip, size=1)


# Functions of their own, so that each is compiled once for all its uses.


@register_jitable
def affine(
    out: Any,
    A: Any,
    B: Any,
    bias: Any,
    bias_step: Any,
    least: Any,
    m: Any,
    n: Any,
    k: Any,
    a_row: Any,
    a_column: Any,
    b_row: Any,
    out_row: Any,
) -> None:
    """Compute out[m, n] = max(bias[m] + Σ_k A[m, k] B[k, n], least).

    Args:
        out: result, rows `out_row` apart.
        A: left factor: A[m, k] lies at m·a_row + k·a_column.
        B: right factor, rows `b_row` apart.
        bias: bias[m] lies at m·bias_step.
        bias_step: 1, or 0 for one bias of all rows.
        least: 0 for a ReLU, −∞ for none, in the network's dtype.
        m: rows of the result.
        n: columns of the result, a multiple of the lanes.
        k: length of the sums.
        a_row: distance of A's rows.
        a_column: distance of A's columns.
        b_row: distance of B's rows.
        out_row: distance of the result's rows.

    """
    _affine(out, A, B, bias, bias_step, least, m, n, k, a_row, a_column, b_row, out_row)


@register_jitable
def accumulate(
    out: Any,
    A: Any,
    B: Any,
    m: Any,
    n: Any,
    k: Any,
    a_row: Any,
    a_column: Any,
    b_row: Any,
    out_row: Any,
) -> None:
    """Add Σ_k A[m, k] B[k, n] to out[m, n]; arguments as of `affine`."""
    _accumulate(out, A, B, m, n, k, a_row, a_column, b_row, out_row)


@intrinsic
def _accumulate_few(
    _typing: Any, out: Any, A: Any, B: Any, m: Any, few: Any, k: Any, b_row: Any, out_row: Any
) -> Any:
    signature = types.none(out, A, B, m, few, k, b_row, out_row)
    apart = signature.args[1]

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = Lanes(builder, signature.args[0].dtype)
        a_row = builder.extract_value(context.make_array(apart)(context, builder, args[1]).shape, 1)
        out, A, B, m, few, k, b_row, out_row = addresses(context, builder, signature, args)
        vectors = builder.sdiv(k, lanes.at(lanes.lanes))

        def block(row: Value, rows: int) -> None:
            lines = [lanes.offset(row, r) for r in range(rows)]

            def column(j: Value) -> None:
                sums = [lanes.variable(lanes.constant(0.0)) for _ in lines]

                def term(i: Value) -> None:
                    at = lanes.offset((i, lanes.lanes))
                    right = lanes.load(B, lanes.offset((j, b_row), at))
                    for line, total in zip(lines, sums, strict=True):
                        left = lanes.load(A, lanes.offset((line, a_row), at))
                        lanes.put(lanes.fma(left, right, lanes.get(total)), total)

                lanes.repeat(vectors, term)
                for line, total in zip(lines, sums, strict=True):
                    place = builder.gep(out, [lanes.offset((line, out_row), j)])
                    value = builder.fadd(builder.load(place), lanes.sum(lanes.get(total)))
                    builder.store(value, place)

            lanes.repeat(few, column)

        lanes.portions(m, (8, 1), block, size=1)
        return context.get_dummy_value()

    return signature, generate


@register_jitable
def accumulate_few(
    out: Any, A: Any, B: Any, m: Any, few: Any, k: Any, b_row: Any, out_row: Any
) -> None:
    """Add Σ_k A[m, k] B[j, k] to out[m, j], j = 0 … few − 1: vectors along the sums.

    Args:
        out: result, rows `out_row` apart.
        A: (m, …).
        B: rows `b_row` apart.
        m: rows of the result.
        few: its columns.
        k: length of the sums, a multiple of the lanes.
        b_row: distance of B's rows.
        out_row: distance of the result's rows.

    """
    _accumulate_few(out, A, B, m, few, k, b_row, out_row)


@intrinsic
def gate(
    _typing: Any, back: Any, hidden: Any, gradient: Any, units: Any, points: Any, stride: Any
) -> Any:
    """Zero `back` where `hidden` is not positive and add its sums over the points to `gradient`.

    Args:
        back: (units, stride) ∂F/∂hidden.
        hidden: (units, stride) after the ReLU.
        gradient: (units,).
        units: rows.
        points: columns looked at, a multiple of the lanes.
        stride: distance of the rows.

    """
    signature = types.none(back, hidden, gradient, units, points, stride)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = Lanes(builder, signature.args[0].dtype)
        back, hidden, gradient, units, points, stride = addresses(context, builder, signature, args)
        zero = lanes.constant(0.0)

        def unit(u: Value) -> None:
            total = lanes.variable(zero)

            def vector(i: Value) -> None:
                at = lanes.offset((u, stride), (i, lanes.lanes))
                active = lanes.compare(">", lanes.load(hidden, at), zero)
                value = lanes.select(active, lanes.load(back, at), zero)
                lanes.store(value, back, at)
                lanes.put(lanes.add(lanes.get(total), value), total)

            lanes.repeat(builder.sdiv(points, lanes.at(lanes.lanes)), vector)
            place = builder.gep(gradient, [u])
            builder.store(builder.fadd(builder.load(place), lanes.sum(lanes.get(total))), place)

        lanes.repeat(units, unit)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def turn(
    _typing: Any, values: Any, turned: Any, rows: Any, columns: Any, stride: Any, out_stride: Any
) -> Any:
    """Transpose: turned[c, r] = values[r, c].

    Args:
        values: rows `stride` apart.
        turned: rows `out_stride` apart.
        rows: of values, a multiple of the lanes.
        columns: of values, a multiple of the lanes.
        stride: distance of the rows read.
        out_stride: distance of the rows written.

    """
    signature = types.none(values, turned, rows, columns, stride, out_stride)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = Lanes(builder, signature.args[0].dtype, REGISTERS.parts)
        values, turned, rows, columns, stride, out_stride = addresses(
            context, builder, signature, args
        )

        def square(row: Value, column: Value) -> None:
            block = [
                lanes.load(values, lanes.offset((lanes.offset(row, r), stride), column))
                for r in range(lanes.lanes)
            ]
            for c, line in enumerate(lanes.transposed(block)):
                lanes.store(line, turned, lanes.offset((lanes.offset(column, c), out_stride), row))

        def strip(row: Value, _: int) -> None:
            lanes.portions(columns, [1], lambda column, _: square(row, column))

        lanes.portions(rows, [1], strip)
        return context.get_dummy_value()

    return signature, generate
