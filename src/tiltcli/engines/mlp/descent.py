"""The training loop, compiled: measures and steps of a network in either layout.

It is given Γ and the learning rate of each step as arrays: it has no schedule of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numba.extending import overload, register_jitable

from tiltcli.engines import lanes, subnormals
from tiltcli.engines.base import EXPLODED
from tiltcli.engines.mlp import logits, narrow, optimisers, order, products, tiled
from tiltcli.engines.mlp.optimisers import set_rate
from tiltcli.engines.mlp.order import shuffle
from tiltcli.engines.mlp.products import turn
from tiltcli.engines.subnormals import flush_subnormals, restore_mode


def _pick(name: str) -> Any:
    """Make a function that compiles to the layout's own: narrow where dims says the sizes."""

    def chosen(*args: Any) -> None:
        raise NotImplementedError

    @overload(chosen, strict=False)
    def _choose(dims: Any, *args: Any) -> Any:
        return getattr(narrow if len(dims) else tiled, name)

    return chosen


_forward_backward, _step, _evaluate = _pick("forward_backward"), _pick("step"), _pick("evaluate")


@register_jitable
def _gather(batch: Any, points: Any, chosen: Any) -> Any:
    """Copy the chosen points into the arrays of a batch."""
    X, rows, labels, groups, _, _, _ = batch
    count = chosen.size
    for j in range(count):
        labels[j], groups[j] = points[2][chosen[j]], points[3][chosen[j]]
    labels[count:] = -1
    groups[count:] = -1
    if rows.size:
        read, width = points[1], rows.shape[1]
        for j in range(count):
            i = chosen[j]
            for d in range(width):
                rows[j, d] = read[i, d]
        # Turned in the cache: to gather it by columns would touch a line for every number.
        turn(rows, X, X.shape[1], width, width, X.shape[1])
    else:
        for d in range(X.shape[0]):
            for j in range(count):
                X[d, j] = points[0][d, chosen[j]]
    return X, rows, labels, groups, points[4], count, X.dtype.type(1 / count)


FEW = 16
"""Classes up to which the points are gone through for each."""


@register_jitable
def _count(points: Any, hits: Any, sums: Any, rights: Any) -> None:
    """Count the points classified right, by class; in all where there is one place for it."""
    labels, count = points[2], points[5]
    if rights.size == 1:
        rights[0] = sums[2]
        return
    if rights.size > FEW:
        for j in range(count):
            if hits[j]:
                rights[int(labels[j])] += 1
        return
    for c in range(rights.size):  # each loop in vectors, without a branch
        number, own = np.int32(0), labels.dtype.type(c)
        for j in range(count):
            number += np.int32((labels[j] == own) & (hits[j] > 0))
        rights[c] = number


@register_jitable
def _copy(values: Any, into: Any) -> None:
    for k in range(values.size):  # an assignment of arrays would not be made in vectors
        into[k] = values[k]


def _compiled(sources: str) -> tuple[Any, Any]:
    """Make the compiled functions; a variable from outside, as `sources`, is part of their key."""
    compiled = njit(cache=True, nogil=True, error_model="numpy")

    @compiled
    def descend(
        dims: Any,
        base: Any,
        train: Any,
        val: Any,
        batch: Any,
        batches: Any,
        network: Any,
        work: Any,
        val_work: Any,
        optimiser: Any,
        gammas: Any,
        rates: Any,
        record: Any,
        update_last: Any,
        out: Any,
        rights: Any,
        val_rights: Any,
        trail: Any,
        slopes: Any,
    ) -> tuple[int, int, float]:
        """Return (steps recorded, step of divergence or −1, loss there), having made the steps.

        `batches` is (size or 0 for full, seed, first step, order of the samples).
        """
        _ = sources
        mode = flush_subnormals()
        kept, last, diverged, its_loss = 0, gammas.shape[0] - 1, -1, np.nan
        sums, val_sums = work[-1], val_work[-1]
        size, seed, first, order = batches
        per_epoch = (train[5] + size - 1) // size if size else 1
        points = train
        for i in range(last + 1):
            gamma = gammas[i]
            if size == 0:
                _forward_backward(dims, base, train, network, work, gamma)
            elif record[i]:
                _evaluate(dims, base, train, network, work, gamma)
            loss = sums[0] / train[5] if size == 0 or record[i] else 0.0
            # Written so that NaN counts as bad.
            bad = not (loss <= EXPLODED)
            if record[i] or bad:
                out[kept, 0], out[kept, 1] = loss, sums[1] / train[5]
                _count(train, work[-2], sums, rights[kept])
                if val[5] > 0:
                    _evaluate(dims, base, val, network, val_work, gamma)
                    out[kept, 2] = val_sums[0] / val[5]
                    _count(val, val_work[-2], val_sums, val_rights[kept])
                kept += 1
            if bad:
                diverged, its_loss = i, loss
            if bad or (i == last and not update_last):
                break
            if size:
                epoch, place = divmod(first + i, per_epoch)
                if i == 0 or place == 0:
                    shuffle(order, seed, epoch)
                points = _gather(batch, train, order[place * size : (place + 1) * size])
                _forward_backward(dims, base, points, network, work, gamma)
                loss = sums[0] / points[5]
                if not (loss <= EXPLODED):
                    diverged, its_loss = i, loss
                    break
            if trail.size:
                _copy(network[0], trail[i])
            if slopes.size:
                _copy(work[0].reshape(work[0].size), slopes[i])
            set_rate(optimiser[0], optimiser[1], optimiser[2], rates[i])
            _step(dims, points, network, work, optimiser)
        restore_mode(mode)
        return kept, diverged, its_loss

    @compiled
    def evaluate(
        dims: Any, base: Any, points: Any, network: Any, work: Any, gamma: Any, rights: Any
    ) -> tuple[float, float]:
        """Static loss and weighted loss; the numbers right are written to `rights`."""
        _ = sources
        _evaluate(dims, base, points, network, work, gamma)
        sums = work[-1]
        _count(points, work[-2], sums, rights)
        return sums[0] / points[5], sums[1] / points[5]

    return descend, evaluate


descend, evaluate = _compiled(
    lanes.digest(lanes, logits, narrow, optimisers, order, products, subnormals, tiled)
)
