"""3×3 convolutions, pools and their gradients, with samples in the lanes.

What libraries put into a vector are channels, and a narrow network has too few to fill it. Here the
samples of a block lie in the lanes, so that every lane works at any number of channels.

Pictures of a block are arrays of vectors, by channel, row and column. A layout (at, plane, row)
says where the first place lies and how far apart channels and rows are, all counted in vectors:
what a convolution reads has a border of zeros around each picture, so that no loop knows an edge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from tiltcli.engines.lanes import LANES, REGISTERS, Lanes, Value, Vector, emitting

CHANNELS, COLUMNS = 4, 4 if REGISTERS.total == 32 else 2
"""Block of a convolution's result held in registers: channels, and neighbours in a row."""

GRADIENTS = 8 if REGISTERS.total == 32 else 4
"""Channels whose three weights of a row are summed up in registers together."""


class _Pictures:
    """Pictures of a block, and where their places are; of the lanes one part."""

    def __init__(self, lanes: Lanes, pointer: Value, layout: Value, part: Value | int = 0) -> None:
        self._lanes, self._pointer, self._part = lanes, pointer, part
        self._at, self._plane, self._row = _values(lanes, layout, 3)

    def _place(self, c: Value, y: Value, x: Value) -> Value:
        index = self._lanes.offset(self._at, (c, self._plane), (y, self._row), x)
        return _vector(self._lanes, index, self._part)

    def load(self, c: Value, y: Value, x: Value) -> Vector:
        """Value of all samples at a place."""
        return self._lanes.load(self._pointer, self._place(c, y, x))

    def store(self, value: Vector, c: Value, y: Value, x: Value) -> None:
        """Write it."""
        self._lanes.store(value, self._pointer, self._place(c, y, x))


def _values(lanes: Lanes, values: Value, count: int) -> list[Value]:
    return [lanes.builder.extract_value(values, i) for i in range(count)]


def _vector(lanes: Lanes, index: Value, part: Value | int) -> Value:
    """Where a part of the vector with a number begins."""
    return lanes.offset((index, LANES[lanes.name]), (part, lanes.lanes))


def _part_by_part(emit: Callable[..., None]) -> Any:
    """Make the intrinsic whose code `emit(lanes, part, *arguments)` writes for each part."""

    @wraps(emit)
    def every(lanes: Lanes, _kinds: Any, *given: Value) -> None:
        if REGISTERS.parts == 1:
            emit(lanes, 0, *given)
        else:
            lanes.repeat(lanes.at(REGISTERS.parts), lambda part: emit(lanes, part, *given))

    return emitting(every, REGISTERS.parts)


def _pieces(
    lanes: Lanes, count: Value, sizes: Sequence[int], body: Callable[[Value, int], None]
) -> None:
    """Run `body(begin, size)` over 0 … count, in pieces of the largest size that still fits."""
    done = lanes.at(0)
    for size in sizes:
        number = lanes.builder.sdiv(lanes.builder.sub(count, done), lanes.at(size))

        def piece(i: Value, begin: Value = done, size: int = size) -> None:
            body(lanes.offset(begin, (i, size)), size)

        lanes.repeat(number, piece)
        done = lanes.offset(done, (number, size))


def _emit_convolve(
    lanes: Lanes,
    part: Value,
    out: Value,
    out_layout: Value,
    X: Value,
    X_layout: Value,
    weights: Value,
    bias: Value,
    least: Value,
    shape: Value,
) -> None:
    """Compute max(least, bias + Σ weights · X) at every place; `least` −∞ lets everything pass.

    X has a border; weights (channels of X, 9, channels of out), the nine row by row; bias (channels
    of out); shape (channels of X, channels of out, rows, columns). NaN stays NaN.
    """
    inputs, outputs, rows, columns = _values(lanes, shape, 4)
    into, of = _Pictures(lanes, out, out_layout, part), _Pictures(lanes, X, X_layout, part)
    floor = lanes.splat(least)

    def block(channel: Value, m: int, y: Value, x: Value, t: int) -> None:
        start = [lanes.spread(bias, lanes.offset(channel, i)) for i in range(m)]
        sums = [[lanes.variable(one) for _ in range(t)] for one in start]

        def channel_in(c: Value) -> None:
            for ky in range(3):
                line = lanes.offset(y, ky - 1)
                places = [of.load(c, line, lanes.offset(x, i - 1)) for i in range(t + 2)]
                for kx in range(3):
                    tap = lanes.offset((c, 9), 3 * ky + kx)
                    for i in range(m):
                        at = lanes.offset((tap, outputs), channel, i)
                        weight = lanes.spread(weights, at)
                        for j, total in enumerate(sums[i]):
                            value = lanes.fma(places[j + kx], weight, lanes.get(total))
                            lanes.put(value, total)

        lanes.repeat(inputs, channel_in)
        for i in range(m):
            for j, total in enumerate(sums[i]):
                value = lanes.get(total)
                value = lanes.select(lanes.compare("<", value, floor), floor, value)
                into.store(value, lanes.offset(channel, i), y, lanes.offset(x, j))

    def strip(channel: Value, m: int) -> None:
        def line(y: Value) -> None:
            _pieces(
                lanes,
                columns,
                sorted({COLUMNS, 2, 1}, reverse=True),
                lambda x, t: block(channel, m, y, x, t),
            )

        lanes.repeat(rows, line)

    _pieces(lanes, outputs, (CHANNELS, 3, 2, 1), strip)


convolve = _part_by_part(_emit_convolve)


def _emit_correlate(
    lanes: Lanes,
    part: Value,
    sums: Value,
    X: Value,
    X_layout: Value,
    delta: Value,
    delta_layout: Value,
    shape: Value,
) -> None:
    """Add to `sums` the gradient of a convolution's weights, lane by lane.

    sums (channels of delta, channels of X, 9, lanes); X as the convolution read it, delta the
    gradient of what it made; shape (channels of X, channels of delta, rows, columns).
    """
    inputs, outputs, rows, columns = _values(lanes, shape, 4)
    of, back = _Pictures(lanes, X, X_layout, part), _Pictures(lanes, delta, delta_layout, part)

    def block(channel: Value, m: int, c: Value, ky: Value) -> None:
        taps = [lanes.offset((lanes.offset(channel, i), inputs), c) for i in range(m)]
        places = [
            [_vector(lanes, lanes.offset((tap, 9), (ky, 3), kx), part) for kx in range(3)]
            for tap in taps
        ]
        totals = [[lanes.variable(lanes.load(sums, at)) for at in line] for line in places]

        def place(y: Value, x: Value) -> None:
            line = lanes.offset(y, ky, -1)
            read = [of.load(c, line, lanes.offset(x, kx - 1)) for kx in range(3)]
            for i in range(m):
                d = back.load(lanes.offset(channel, i), y, x)
                for value, total in zip(read, totals[i], strict=True):
                    lanes.put(lanes.fma(value, d, lanes.get(total)), total)

        lanes.repeat(rows, lambda y: lanes.repeat(columns, lambda x: place(y, x)))
        for some, line in zip(totals, places, strict=True):
            for total, at in zip(some, line, strict=True):
                lanes.store(lanes.get(total), sums, at)

    def strip(channel: Value, m: int) -> None:
        def channel_in(c: Value) -> None:
            lanes.repeat(lanes.at(3), lambda ky: block(channel, m, c, ky))

        lanes.repeat(inputs, channel_in)

    _pieces(lanes, outputs, sorted({GRADIENTS, 4, 2, 1}, reverse=True), strip)


correlate = _part_by_part(_emit_correlate)


class _Windows:
    """Windows that lie side by side: loops over them and within them."""

    def __init__(self, lanes: Lanes, shape: Value) -> None:
        self._lanes = lanes
        self.channels, self._rows, self._columns, self._height, self._width = _values(
            lanes, shape, 5
        )

    @property
    def share(self) -> Vector:
        """One over the places of a window."""
        area = self._lanes.builder.mul(self._height, self._width)
        area = self._lanes.builder.sitofp(area, self._lanes.scalar)
        return self._lanes.div(self._lanes.constant(1.0), self._lanes.splat(area))

    def each(self, body: Callable[[Value, Value], None]) -> None:
        """Run `body(row, column)` for every window."""
        repeat = self._lanes.repeat
        repeat(self._rows, lambda y: repeat(self._columns, lambda x: body(y, x)))

    def within(self, y: Value, x: Value, body: Callable[[Value, Value], None]) -> None:
        """Run `body(row, column)` for every place of a window."""
        repeat, offset = self._lanes.repeat, self._lanes.offset
        top, left = offset((y, self._height)), offset((x, self._width))
        repeat(
            self._height,
            lambda i: repeat(self._width, lambda j: body(offset(top, i), offset(left, j))),
        )


def _emit_pool(
    lanes: Lanes,
    _kinds: Any,
    out: Value,
    out_layout: Value,
    X: Value,
    X_layout: Value,
    shape: Value,
) -> None:
    """Take means over windows; what no window covers does not count.

    shape (channels, rows and columns of the result, rows and columns of a window).
    """
    into, of = _Pictures(lanes, out, out_layout), _Pictures(lanes, X, X_layout)
    windows = _Windows(lanes, shape)
    share = windows.share
    total = lanes.variable(lanes.constant(0.0))

    def mean(c: Value, y: Value, x: Value) -> None:
        lanes.put(lanes.constant(0.0), total)
        windows.within(
            y, x, lambda i, j: lanes.put(lanes.add(lanes.get(total), of.load(c, i, j)), total)
        )
        into.store(lanes.mul(lanes.get(total), share), c, y, x)

    lanes.repeat(windows.channels, lambda c: windows.each(lambda y, x: mean(c, y, x)))


pool = emitting(_emit_pool)


def _emit_gate(
    lanes: Lanes,
    _kinds: Any,
    delta: Value,
    delta_layout: Value,
    sums: Value,
    Y: Value,
    Y_layout: Value,
    back: Value,
    back_layout: Value,
    shape: Value,
) -> None:
    """Take a gradient back through a pool and the ReLU before it, and add its sums to `sums`.

    delta, of what the ReLU was given, is the result but where no window covers; sums (channels,
    lanes); Y is what the ReLU gave, back the gradient of what the pool made; shape as of `pool`,
    windows of 1 × 1 where there is none.
    """
    into, of = _Pictures(lanes, delta, delta_layout), _Pictures(lanes, Y, Y_layout)
    pooled = _Pictures(lanes, back, back_layout)
    windows = _Windows(lanes, shape)
    share, zero = windows.share, lanes.constant(0.0)
    total = lanes.variable(zero)

    def through(c: Value, y: Value, x: Value) -> None:
        value = lanes.mul(pooled.load(c, y, x), share)

        def place(i: Value, j: Value) -> None:
            passed = lanes.select(lanes.compare(">", of.load(c, i, j), zero), value, zero)
            into.store(passed, c, i, j)
            lanes.put(lanes.add(lanes.get(total), passed), total)

        windows.within(y, x, place)

    def channel(c: Value) -> None:
        at = lanes.offset((c, lanes.lanes))
        lanes.put(lanes.load(sums, at), total)
        windows.each(lambda y, x: through(c, y, x))
        lanes.store(lanes.get(total), sums, at)

    lanes.repeat(windows.channels, channel)


gate = emitting(_emit_gate)
