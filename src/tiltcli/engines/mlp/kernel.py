"""Full-batch gradient descent of a one-hidden-layer ReLU network on the weighted cross-entropy.

The kernel is given Γ and the learning rate of each step as arrays: it has no schedule of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit
from numba.extending import overload

from tiltcli.engines import lanes, softmax
from tiltcli.engines.base import EXPLODED
from tiltcli.engines.lanes import LANES
from tiltcli.engines.mlp import narrow, tiled
from tiltcli.engines.softmax import GROUP
from tiltcli.networks.initial import Weights

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Steps:
    """What was measured at the recorded steps, one entry each.

    Attributes:
        train_loss: static loss, float64.
        dynamical_loss: loss weighted by the step's Γ, float64.
        train_correct: points classified right, int64.
        val_loss: static loss on the validation points, float64; NaN without any.
        val_correct: validation points classified right, int64; 0 without any.
        diverged_at: step at which the loss was not finite or had exploded; None if none was.

    """

    train_loss: npt.NDArray[np.float64]
    dynamical_loss: npt.NDArray[np.float64]
    train_correct: Labels
    val_loss: npt.NDArray[np.float64]
    val_correct: Labels
    diverged_at: int | None


def _pick(name: str) -> Any:
    """Make a function that compiles to the layout's own: narrow where dims says the sizes."""

    def chosen(*args: Any) -> None:
        raise NotImplementedError

    @overload(chosen, strict=False)
    def _choose(dims: Any, points: Any, network: Any, work: Any, factor: Any) -> Any:
        return getattr(narrow if len(dims) else tiled, name)

    return chosen


_look, _move, _score = _pick("look"), _pick("move"), _pick("score")


def _compiled(sources: str) -> tuple[Any, Any]:
    """Make the compiled functions; a variable from outside, as `sources`, is part of their key."""
    compiled = njit(cache=True, nogil=True, error_model="numpy")

    @compiled
    def descend(
        dims: Any,
        train: Any,
        val: Any,
        network: Any,
        work: Any,
        val_work: Any,
        gammas: Any,
        rates: Any,
        record: Any,
        update_last: Any,
        out: Any,
    ) -> tuple[int, int]:
        """Make steps; (steps recorded, step of divergence or −1)."""
        _ = sources
        kept, last = 0, gammas.shape[0] - 1
        sums, val_sums = work[-1], val_work[-1]
        for i in range(last + 1):
            _look(dims, train, network, work, gammas[i])
            loss = sums[0] / train[3]
            # Written so that NaN counts as bad.
            bad = not (loss <= EXPLODED)
            if record[i] or bad:
                out[kept, 0], out[kept, 1], out[kept, 2] = loss, sums[1] / train[3], sums[2]
                if val[3] > 0:
                    _score(dims, val, network, val_work, gammas[i])
                    out[kept, 3], out[kept, 4] = val_sums[0] / val[3], val_sums[2]
                kept += 1
            if bad:
                return kept, i
            if i < last or update_last:
                _move(dims, train, network, work, rates[i])
        return kept, -1

    @compiled
    def evaluate(dims: Any, points: Any, network: Any, work: Any, gamma: Any) -> Any:
        """Static loss and number right."""
        _ = sources
        _score(dims, points, network, work, gamma)
        return work[-1][0] / points[3], work[-1][2]

    return descend, evaluate


_descend, _evaluate = _compiled(lanes.digest(lanes, narrow, softmax, tiled))


@dataclass(frozen=True)
class Points:
    """Labelled points laid out for the kernel; several networks may share them.

    Attributes:
        arrays: X with points in the lanes, X by rows (tiled layout), labels, count, 1/count.
        dims: inputs and classes as lengths of tuples where the layout is narrow, else ().
        dtype: float32 or float64.

    """

    arrays: tuple[Any, ...]
    dims: Any
    dtype: np.dtype[Any]

    @staticmethod
    def prepare(X: npt.NDArray[Any], y: Labels, classes: int, dtype: npt.DTypeLike) -> Points:
        """Lay out X (n, inputs) and labels y (n,), each in 0 … classes − 1."""
        kind, (count, inputs) = np.dtype(dtype), X.shape
        fits = inputs + classes <= narrow.LARGEST
        padded = _padded(count, kind, GROUP)
        turned = np.zeros((inputs, padded), kind)
        turned[:, :count] = X.T
        rows = np.zeros((0, 0) if fits else (padded, _padded(inputs, kind)), kind)
        if not fits:
            rows[:count, :inputs] = X
        labels = np.full(padded, -1, kind)
        labels[:count] = y
        dims = ((0,) * inputs, (0,) * classes) if fits else ()
        return Points((turned, rows, labels, count, kind.type(1 / max(count, 1))), dims, kind)


def _lanes(dtype: np.dtype[Any]) -> int:
    # By its letter: NumPy puts a dtype's name together anew each time, which small jobs would feel.
    return LANES["float32" if dtype.char == "f" else "float64"]


def _padded(count: int, dtype: np.dtype[Any], vectors: int = 1) -> int:
    """Round up to whole groups of so many vectors."""
    size = vectors * _lanes(dtype)
    return -(-count // size) * size


def _given(values: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Lay out what the kernel only reads; read-only always, lest it be compiled for both kinds."""
    array = np.ascontiguousarray(values, dtype).view()
    array.flags.writeable = False
    return array


class FusedNetwork:
    """A network being trained.

    Args:
        theta: initial parameters [W1 row-major, b1, W2 row-major, b2], W1 (inputs, width).
        width: hidden units.
        train: the training set; its dtype is that of all arithmetic but the sums of the losses
            (float64).
        val: the validation set, or None.
        classes: number of classes C.

    """

    def __init__(
        self,
        theta: npt.ArrayLike,
        width: int,
        train: Points,
        val: Points | None,
        classes: int,
    ) -> None:
        self._dtype, self._dims = train.dtype, train.dims
        self._narrow = bool(len(train.dims))
        self._shape: tuple[int, int, int] = (train.arrays[0].shape[0], width, classes)
        self._network = self._pack(theta)
        if val is None:
            none = np.zeros((0, self._shape[0]))
            val = Points.prepare(none, np.zeros(0, np.int64), classes, self._dtype)
        self._train, self._val = train.arrays, val.arrays
        self._work, self._val_work = self._space(self._train), self._space(self._val)

    def _pack(self, theta: npt.ArrayLike) -> tuple[Any, ...]:
        inputs, width, classes = self._shape
        weights = Weights.unflatten(theta, inputs, width, classes)
        W1, b1, W2, b2 = weights.W1, weights.b1, weights.W2, weights.b2
        # Padding is zero and stays zero: a hidden unit of zero weights has no gradient.
        if self._narrow:
            units = _padded(width, self._dtype)
            shapes = [(inputs, units), (units,), (classes, units), (classes,)]
            parts = [W1, b1, W2.T, b2]
        else:
            shapes = [(width, _padded(inputs, self._dtype)), (width,)]
            shapes += [(width, _padded(classes, self._dtype)), (classes,)]
            parts = [W1.T, b1, W2, b2]
        arrays = [np.zeros(shape, self._dtype) for shape in shapes]
        for array, part in zip(arrays, parts, strict=True):
            array[tuple(slice(n) for n in part.shape)] = part
        return (*arrays, width)

    def _space(self, points: tuple[Any, ...]) -> tuple[Any, ...]:
        _, width, classes = self._shape
        kind = self._dtype
        ends = (np.zeros((classes, _lanes(kind)), kind), np.zeros(3))
        if self._narrow:
            return (np.zeros((classes, points[0].shape[1]), kind), *ends)
        W1, _, W2, _, _ = self._network
        tiles = [np.zeros((n, tiled.TILE), kind) for n in (width, width, classes)]
        turned = np.zeros((tiled.TILE, W2.shape[1]), kind)
        return (*tiles, turned, np.zeros_like(W1), np.zeros(width, kind), np.zeros_like(W2), *ends)

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        inputs, width, classes = self._shape
        return inputs * width + width + width * classes + classes

    @property
    def theta(self) -> npt.NDArray[Any]:
        """Parameters as in `__init__`, shape (parameters,), in the network's dtype."""
        inputs, width, classes = self._shape
        W1, b1, W2, b2, _ = self._network
        if self._narrow:
            parts = (W1[:, :width], b1[:width], W2[:, :width].T, b2)
        else:
            parts = (W1[:, :inputs].T, b1, W2[:, :classes], b2)
        return np.concatenate([part.ravel() for part in parts])

    def run(
        self,
        gammas: npt.NDArray[np.float64],
        lrs: npt.NDArray[np.float64],
        record: npt.NDArray[np.bool_],
        update_last: bool = True,
    ) -> Steps:
        """Make steps; the numbers do not depend on how steps are divided into calls.

        Args:
            gammas: class weights of each step, shape (n, C).
            lrs: learning rate of each step, shape (n,).
            record: steps to keep measures of, shape (n,); a diverging step always is kept.
            update_last: whether the last step is followed by its update, or only measured.

        Returns:
            the measures; each is taken before the step's update.

        """
        out = np.zeros((int(np.count_nonzero(record)) + 1, 5))
        out[:, 3] = np.nan
        kept, diverged = _descend(
            self._dims,
            self._train,
            self._val,
            self._network,
            self._work,
            self._val_work,
            _given(gammas, self._dtype),
            _given(lrs, self._dtype),
            _given(record, np.bool_),
            update_last,
            out,
        )
        loss, weighted, right, val_loss, val_right = out[:kept].T
        at = None if diverged < 0 else int(diverged)
        right, val_right = right.astype(np.int64), val_right.astype(np.int64)
        return Steps(loss, weighted, right, val_loss, val_right, at)

    def evaluate(self, points: Points) -> tuple[float, int]:
        """Static loss and number right on some points."""
        gamma = np.ones(self._shape[2], self._dtype)
        work = self._space(points.arrays)
        loss, right = _evaluate(self._dims, points.arrays, self._network, work, gamma)
        return float(loss), int(right)
