"""Small matrix products and what goes with them, for the tiled layout.

All products are one small matrix product with a block of the result in registers. Rows of a matrix
lie `<matrix>_row` apart, columns of A `a_column`; n, and the k of `accumulate_few`, are multiples
of the lanes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiltcli.engines.lanes import REGISTERS, Lanes, Value, Vector, emitting

ROWS = (6, 2, 1)
VECTORS = (4, 3, 2, 1) if REGISTERS.total == 32 else (2, 1)
"""Blocks of a product held in registers: rows and vectors of columns; small ones for the rest."""


def _emit_product(
    lanes: Lanes,
    out: Value,
    A: Value,
    B: Value,
    start: Callable[[Value, Value], Vector],
    end: Callable[[Vector], Vector],
    sizes: tuple[Value, ...],
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


def _emit_affine(
    lanes: Lanes,
    _kinds: Any,
    out: Value,
    A: Value,
    B: Value,
    bias: Value,
    bias_step: Value,
    least: Value,
    m: Value,
    n: Value,
    k: Value,
    a_row: Value,
    a_column: Value,
    b_row: Value,
    out_row: Value,
) -> None:
    """Compute out[m, n] = max(bias[m] + Σ_k A[m, k] B[k, n], least), bias[m] at m·bias_step."""
    floor = lanes.splat(least)

    def start(line: Value, _: Value) -> Vector:
        return lanes.spread(bias, lanes.offset((line, bias_step)))

    def end(value: Vector) -> Vector:
        return lanes.select(lanes.compare("<", value, floor), floor, value)

    sizes = m, n, k, a_row, a_column, b_row, out_row
    _emit_product(lanes, out, A, B, start, end, sizes)


def _emit_accumulate(
    lanes: Lanes,
    _kinds: Any,
    out: Value,
    A: Value,
    B: Value,
    m: Value,
    n: Value,
    k: Value,
    a_row: Value,
    a_column: Value,
    b_row: Value,
    out_row: Value,
) -> None:
    """Add Σ_k A[m, k] B[k, n] to out[m, n]."""
    sizes = m, n, k, a_row, a_column, b_row, out_row
    _emit_product(lanes, out, A, B, lambda _, at: lanes.load(out, at), lambda one: one, sizes)


def _emit_few(
    lanes: Lanes,
    _kinds: Any,
    out: Value,
    A: Value,
    B: Value,
    m: Value,
    few: Value,
    k: Value,
    a_row: Value,
    b_row: Value,
    out_row: Value,
) -> None:
    """Add Σ_k A[m, k] B[j, k] to out[m, j], j = 0 … few − 1: vectors along the sums."""
    vectors = lanes.builder.sdiv(k, lanes.at(lanes.lanes))

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
                place = lanes.builder.gep(out, [lanes.offset((line, out_row), j)])
                value = lanes.builder.fadd(lanes.builder.load(place), lanes.sum(lanes.get(total)))
                lanes.builder.store(value, place)

        lanes.repeat(few, column)

    lanes.portions(m, (8, 1), block, size=1)


def _emit_gate(
    lanes: Lanes,
    _kinds: Any,
    back: Value,
    hidden: Value,
    gradient: Value,
    units: Value,
    points: Value,
    stride: Value,
) -> None:
    """Zero back (units, points) where hidden is not positive; add its sums to gradient (units)."""
    zero = lanes.constant(0.0)

    def unit(u: Value) -> None:
        total = lanes.variable(zero)

        def vector(i: Value) -> None:
            at = lanes.offset((u, stride), (i, lanes.lanes))
            active = lanes.compare(">", lanes.load(hidden, at), zero)
            value = lanes.select(active, lanes.load(back, at), zero)
            lanes.store(value, back, at)
            lanes.put(lanes.add(lanes.get(total), value), total)

        lanes.repeat(lanes.builder.sdiv(points, lanes.at(lanes.lanes)), vector)
        place = lanes.builder.gep(gradient, [u])
        lanes.builder.store(
            lanes.builder.fadd(lanes.builder.load(place), lanes.sum(lanes.get(total))), place
        )

    lanes.repeat(units, unit)


def _emit_turn(
    lanes: Lanes,
    _kinds: Any,
    values: Value,
    turned: Value,
    rows: Value,
    columns: Value,
    stride: Value,
    out_stride: Value,
) -> None:
    """Transpose: turned[c, r] = values[r, c], of rows and columns that are multiples of lanes."""

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


# The products are compiled once for all their uses.
affine = emitting(_emit_affine, REGISTERS.parts, once=True)
accumulate = emitting(_emit_accumulate, REGISTERS.parts, once=True)
accumulate_few = emitting(_emit_few, once=True)
gate, turn = emitting(_emit_gate), emitting(_emit_turn, REGISTERS.parts)
