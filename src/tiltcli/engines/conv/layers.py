"""Myrtle5's convolutions forward and back, a block of samples after the other.

A block goes through all layers while its values are in the cache. Gradients are summed up lane by
lane, block after block, so that the same numbers come out every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from tiltcli.engines import lanes
from tiltcli.engines.conv import convolution
from tiltcli.engines.conv.convolution import convolve, correlate, gate, pool
from tiltcli.engines.lanes import LANES
from tiltcli.networks.initial import MYRTLE5_POOLS

LAYERS = len(MYRTLE5_POOLS)

Layout = tuple[int, int, int]


class Layer(NamedTuple):
    """Sizes and layouts of a convolution, its ReLU and its pools, as `convolution` wants them."""

    shape: tuple[int, int, int, int]  # (channels read, channels made, rows, columns)
    # (channels, rows and columns of what the pools make, rows and columns of a window)
    pool: tuple[int, int, int, int, int]
    read: Layout  # layout of what is read: with a border
    made: Layout  # layout of what the ReLU gives
    pooled: Layout  # layout of what the pools make: what the next layer reads, or the features
    back: Layout  # layout of the gradient of that


class Arrays(NamedTuple):
    """What a layer makes; blocks of samples first, lanes last."""

    made: Any  # what the ReLU gave; the same array as `pooled` where there is no pool
    pooled: Any  # what the pools made
    delta: Any  # gradient of what the ReLU was given, of one block, with a border of zeros
    back: Any  # gradient of `pooled`, of one block
    forth: Any  # the weights for the way forward, (in, 9, out)
    turned: Any  # the weights for the way back, (out, 9, in)
    none: Any  # as many zeros as there are channels read
    weight_sums: Any  # gradient of the weights by lane, (out, in, 9, lanes)
    bias_sums: Any  # gradient of the biases by lane, (out, lanes)


def _edged(rows: int, columns: int) -> Layout:
    return columns + 3, (rows + 2) * (columns + 2), columns + 2


def _plain(rows: int, columns: int) -> Layout:
    return 0, rows * columns, columns


def layers_of(sample: Sequence[int], width: int) -> tuple[Layer, ...]:
    """Layers for samples (channels, rows, columns) and a number of channels."""
    channels, rows, columns = sample
    layers = []
    for number, pools in enumerate(MYRTLE5_POOLS):
        kept, window = [rows, columns], [1, 1]
        for _ in range(pools):
            for side in range(2):
                if kept[side] > 1:
                    kept[side] //= 2
                    window[side] *= 2
        pooled = _plain(*kept) if number == LAYERS - 1 else _edged(*kept)
        layers.append(
            Layer(
                (channels, width, rows, columns),
                (width, kept[0], kept[1], window[0], window[1]),
                _edged(rows, columns),
                pooled if window == [1, 1] else _plain(rows, columns),
                pooled,
                _plain(*kept),
            )
        )
        channels, (rows, columns) = width, kept
    return tuple(layers)


def allocate(layer: Layer, last: bool, blocks: int, dtype: np.dtype[Any]) -> Arrays:
    """Make a layer's arrays for so many blocks; the last layer's pools make the features."""
    inputs, outputs, rows, columns = layer.shape
    kept, window = layer.pool[1:3], layer.pool[3:]
    size = LANES[dtype.name]

    def zeros(*shape: int) -> Any:
        return np.zeros(shape, dtype)

    edge = 0 if last else 2
    pooled = zeros(blocks, outputs, kept[0] + edge, kept[1] + edge, size)
    return Arrays(
        pooled if window == (1, 1) else zeros(blocks, outputs, rows, columns, size),
        pooled,
        zeros(outputs, rows + 2, columns + 2, size),
        zeros(outputs, *kept, size),
        zeros(inputs, 9, outputs),
        zeros(outputs, 9, inputs),
        zeros(inputs),
        zeros(outputs, inputs, 9, size),
        zeros(outputs, size),
    )


_part = njit(nogil=True, error_model="numpy")


@_part
def _make(
    out: Any,
    out_layout: Any,
    read: Any,
    layout: Any,
    weights: Any,
    bias: Any,
    least: Any,
    shape: Any,
) -> None:
    """Convolve; compiled once for both directions."""
    convolve(out, out_layout, read, layout, weights, bias, least, shape)


@_part
def _pack(weights: Any, forth: Any, turned: Any) -> None:
    """Lay weights out as a convolution reads them, for either direction."""
    for o in range(weights.shape[0]):
        for i in range(weights.shape[1]):
            for tap in range(9):
                weight = weights[o, i, tap // 3, tap % 3]
                forth[i, tap, o] = weight
                turned[o, 8 - tap, i] = weight


@_part
def _add_up(weights: Any, biases: Any, weight_sums: Any, bias_sums: Any) -> None:
    """Add up gradients over the lanes."""
    for o in range(weights.shape[0]):
        biases[o] = 0
        for lane in range(bias_sums.shape[1]):
            biases[o] += bias_sums[o, lane]
        for i in range(weights.shape[1]):
            for tap in range(9):
                total = weight_sums[o, i, tap, 0]
                for lane in range(1, weight_sums.shape[3]):
                    total += weight_sums[o, i, tap, lane]
                weights[o, i, tap // 3, tap % 3] = total


@_part
def _turn(samples: Any, begin: Any, block: Any, edge: Any) -> None:
    """Put samples (n, rows, columns, channels) into a block's lanes; zeros for those beyond."""
    size = block.shape[3]
    count = min(samples.shape[0] - begin, size)
    for y in range(samples.shape[1]):
        for x in range(samples.shape[2]):
            for c in range(samples.shape[3]):
                for lane in range(count):
                    block[c, y + edge, x + edge, lane] = samples[begin + lane, y, x, c]
                for lane in range(count, size):
                    block[c, y + edge, x + edge, lane] = 0


@_part
def _turn_back(block: Any, samples: Any, begin: Any) -> None:
    """Take samples (n, rows, columns, channels) out of a block's lanes."""
    for lane in range(min(samples.shape[0] - begin, block.shape[3])):
        for y in range(samples.shape[1]):
            for x in range(samples.shape[2]):
                for c in range(samples.shape[3]):
                    samples[begin + lane, y, x, c] = block[c, y, x, lane]


@_part
def _below(layout: Any, rows: Any) -> Any:
    """Layout of what lies so many rows further down."""
    return layout[0] + rows * layout[2], layout[1], layout[2]


def _compiled(sources: str) -> tuple[Any, Any]:
    """Make the compiled functions; a variable from outside, as `sources`, is part of their key."""
    compiled = njit(cache=True, nogil=True, error_model="numpy")

    @compiled
    def forward(
        X: Any,
        first: Any,
        layers: Any,
        arrays: Any,
        weights: Any,
        biases: Any,
        features: Any,
        keep: Any,
    ) -> None:
        """Compute the features of samples; unless `keep`, each block overwrites the one before."""
        _ = sources
        low = first.dtype.type(0)
        for k in range(LAYERS):
            _pack(weights[k], arrays[k].forth, arrays[k].turned)
        size = first.shape[4]
        for begin in range(0, X.shape[0], size):
            b = begin // size if keep else 0
            _turn(X, begin, first[b], 1)
            for k in range(LAYERS):
                layer, own = layers[k], arrays[k]
                read = first[b] if k == 0 else arrays[k - 1].pooled[b]
                made, made_at, read_at = own.made[b], layer.made, layer.read
                if layer.pool[3] * layer.pool[4] == 1:
                    _make(made, made_at, read, read_at, own.forth, biases[k], low, layer.shape)
                    continue
                # Rows of windows go to the pool while they are in the cache.
                inputs, outputs = layer.shape[:2]
                _, rows, columns, height, width = layer.pool
                shape = inputs, outputs, height, columns * width
                pooled_at = layer.pooled
                for _row in range(rows):
                    _make(made, made_at, read, read_at, own.forth, biases[k], low, shape)
                    windows = outputs, 1, columns, height, width
                    pool(own.pooled[b], pooled_at, made, made_at, windows)
                    pooled_at, read_at = _below(pooled_at, 1), _below(read_at, height)
                    made_at = _below(made_at, height) if keep else made_at
            _turn_back(arrays[LAYERS - 1].pooled[b], features, begin)

    @compiled
    def backward(
        gradient: Any, first: Any, layers: Any, arrays: Any, weights: Any, biases: Any
    ) -> None:
        """Overwrite weights and biases with their gradients, given that of the features."""
        _ = sources
        least = first.dtype.type(-np.inf)
        size = first.shape[4]
        for b in range(-(-gradient.shape[0] // size)):
            _turn(gradient, b * size, arrays[LAYERS - 1].back, 0)
            for j in range(LAYERS):
                k = LAYERS - 1 - j
                layer, own = layers[k], arrays[k]
                gate(
                    *(own.delta, layer.read, own.bias_sums, own.made[b], layer.made),
                    *(own.back, layer.back, layer.pool),
                )
                read = first[b] if k == 0 else arrays[k - 1].pooled[b]
                correlate(own.weight_sums, read, layer.read, own.delta, layer.read, layer.shape)
                if k > 0:
                    inputs, outputs, rows, columns = layer.shape
                    _make(
                        *(arrays[k - 1].back, layers[k - 1].back, own.delta, layer.read),
                        *(own.turned, own.none, least, (outputs, inputs, rows, columns)),
                    )
        for k in range(LAYERS):
            _add_up(weights[k], biases[k], arrays[k].weight_sums, arrays[k].bias_sums)

    return forward, backward


forward, backward = _compiled(lanes.digest(convolution, lanes))
