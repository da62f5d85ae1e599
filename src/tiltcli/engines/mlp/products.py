"""Small matrix products and what goes with them, for the tiled layout.

All products are one small matrix product with a block of the result in registers.
"""

from __future__ import annotations

from typing import Any

from numba import types

from tiltcli.engines.lanes import REGISTERS, Lanes, Value, addresses, intrinsic

ROWS, VECTORS = 6, 4 if REGISTERS.total == 32 else 2
"""Block of a product held in registers: rows, and vectors of columns."""


def product_of(start: str, *, relu: bool = False) -> Any:
    """Make the intrinsic out[m, n] = start + Σ_k A[m, k] B[k, n].

    `start` is "zero", "add" (what `out` holds) or "bias" (bias[m]).
    """

    @intrinsic
    def product(
        _typing: Any,
        out: Any,
        A: Any,
        B: Any,
        bias: Any,
        m: Any,
        n: Any,
        k: Any,
        a_row: Any,
        a_column: Any,
        b_row: Any,
        out_row: Any,
    ) -> Any:
        """Multiply.

        Args:
            out: result, rows `out_row` apart.
            A: left factor: A[m, k] lies at m·a_row + k·a_column.
            B: right factor, rows `b_row` apart.
            bias: (m,), read only where the result starts from it.
            m: rows of the result.
            n: columns of the result, a multiple of the lanes.
            k: length of the sums.
            a_row: distance of A's rows.
            a_column: distance of A's columns.
            b_row: distance of B's rows.
            out_row: distance of the result's rows.

        """
        signature = types.none(out, A, B, bias, m, n, k, a_row, a_column, b_row, out_row)

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            lanes = Lanes(builder, signature.args[0].dtype, REGISTERS.parts)
            _emit_product(lanes, addresses(context, builder, signature, args), start, relu)
            return context.get_dummy_value()

        return signature, generate

    return product


def _emit_product(lanes: Lanes, args: list[Value], start: str, relu: bool) -> None:
    out, A, B, bias, m, n, k, a_row, a_column, b_row, out_row = args
    build = lanes.builder

    def block(row: Value, column: Value, rows: int, vectors: int) -> None:
        lines = [lanes.offset(row, r) for r in range(rows)]
        columns = [lanes.offset(column, v * lanes.lanes) for v in range(vectors)]
        places = [[lanes.offset((line, out_row), at) for at in columns] for line in lines]
        sums = []
        for line, row_places in zip(lines, places, strict=True):
            if start == "bias":
                first = [lanes.spread(bias, line)] * vectors
            elif start == "add":
                first = [lanes.load(out, place) for place in row_places]
            else:
                first = [lanes.constant(0.0)] * vectors
            sums.append([lanes.variable(value) for value in first])

        def term(i: Value) -> None:
            right = [lanes.load(B, lanes.offset((i, b_row), at)) for at in columns]
            for line, row_sums in zip(lines, sums, strict=True):
                left = lanes.spread(A, lanes.offset((line, a_row), (i, a_column)))
                for total, factor in zip(row_sums, right, strict=True):
                    lanes.put(lanes.fma(left, factor, lanes.get(total)), total)

        lanes.repeat(k, term)
        for row_sums, row_places in zip(sums, places, strict=True):
            for total, place in zip(row_sums, row_places, strict=True):
                value = lanes.get(total)
                lanes.store(lanes.relu(value) if relu else value, out, place)

    def strip(row: Value, rows: int) -> None:
        size = VECTORS * lanes.lanes
        whole = build.sdiv(n, lanes.at(size))
        lanes.repeat(whole, lambda j: block(row, lanes.offset((j, size)), rows, VECTORS))
        done = build.mul(whole, lanes.at(size))
        left = build.sdiv(build.sub(n, done), lanes.at(lanes.lanes))
        lanes.repeat(left, lambda j: block(row, lanes.offset(done, (j, lanes.lanes)), rows, 1))

    whole = build.sdiv(m, lanes.at(ROWS))
    lanes.repeat(whole, lambda i: strip(lanes.offset((i, ROWS)), ROWS))
    done = build.mul(whole, lanes.at(ROWS))
    lanes.repeat(build.sub(m, done), lambda i: strip(lanes.offset(done, i), 1))


hidden_layer = product_of("bias", relu=True)
output_layer = product_of("bias")
back_through = product_of("zero")
accumulate = product_of("add")


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
