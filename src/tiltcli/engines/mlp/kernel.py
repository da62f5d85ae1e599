"""A ReLU network trained by the compiled kernel on the weighted cross-entropy or squared error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tiltcli.engines.base import Trail, adam_diagonal
from tiltcli.engines.mlp.descent import descend, evaluate
from tiltcli.engines.mlp.layout import Labels, Points, as_given, lanes_of, padded, room, zeros
from tiltcli.engines.mlp.logits import BASES
from tiltcli.engines.mlp.optimisers import ADAM, EPSILON, Optimiser
from tiltcli.engines.mlp.tiled import TILE

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float64

_PLAIN = Optimiser()


class Steps(NamedTuple):
    """What was measured at the recorded steps, one entry each."""

    train_loss: npt.NDArray[np.float64]  # static loss, float64
    dynamical_loss: npt.NDArray[np.float64]  # loss weighted by the step's Γ, float64
    # training points classified right by class, int64, (rows, C); or in all, (rows, 1)
    train_correct: Labels
    # static loss on the validation points, float64; NaN without any
    val_loss: npt.NDArray[np.float64]
    val_correct: Labels  # likewise of the validation points
    # step at which the loss was not finite or had exploded; None if none was
    diverged_at: int | None
    diverged_loss: float  # that loss, of the training set or of the step's batch; NaN if none was
    trail: Trail | None  # None unless asked for


class Measures(NamedTuple):
    """Static loss, loss weighted by Γ, and numbers classified right as in `Steps`."""

    loss: float
    weighted: float
    right: Labels


class Batches(NamedTuple):
    """Batches of an epoch, in an order that the seed and the epoch decide."""

    size: int  # samples of a batch; an epoch's last may have fewer
    seed: int  # of the order


class FusedNetwork:
    """A network being trained, from parameters [W1 row-major, b1, W2 …], W1 (inputs, width).

    The dtype of `train` is that of all arithmetic but the sums of the losses (float64); it and
    `val` are laid out for `depth`. `recalls`: to count by class even where classes are alike.
    """

    def __init__(
        self,
        theta: npt.ArrayLike,
        width: int,
        train: Points,
        val: Points | None,
        classes: int,
        *,
        depth: int = 1,
        base: str = "cross_entropy",
        optimiser: Optimiser = _PLAIN,
        batches: Batches | None = None,
        recalls: bool = False,
    ) -> None:
        self._dtype, self._dims = train.dtype, train.dims
        self._base, self._classes = BASES.index(base), classes
        self._narrow = bool(len(train.dims))
        inputs = train.arrays[0].shape[0]
        self._layers, size = self._arrange([inputs, *[width] * depth, classes])
        self._theta = zeros((size,), self._dtype)
        flat, begin = np.asarray(theta, np.float64), 0
        for part in self._parts(self._theta):
            part[...] = flat[begin : begin + part.size].reshape(part.shape)
            begin += part.size
        self.parameters = begin
        if val is None:
            none = np.zeros((0, inputs))
            val = Points.prepare(none, np.zeros(0, np.int64), classes, self._dtype, depth=depth)
        self.points, self._recalls = (train, val), recalls
        self._counts = self._counted(train), self._counted(val)
        self._train, self._val = train.arrays, val.arrays
        count = train.arrays[5]
        self._batches = (
            Batches(min(batches.size, count), batches.seed) if batches else Batches(0, 0)
        )
        self._order = np.zeros(count if batches else 0, np.int64)
        space = room(self._batches.size, inputs, self._dtype, self._narrow)
        self._batch = (*space, 0, 0, self._dtype.type(0))
        self._work = self._space(self._train)
        self._val_work = self._space(self._val) if self._narrow else self._work
        self._optimiser = (
            optimiser.kind,
            optimiser.coefficients(self._dtype),
            optimiser.progress(),
            *optimiser.moments(size, lambda n: zeros((n,), self._dtype)),
        )
        self._made = 0
        self._kept = [[np.empty((0, 0), self._dtype)] * 2] * 2

    def _arrange(self, units: Sequence[int]) -> tuple[npt.NDArray[np.int64], int]:
        """Say where each layer lies, see `narrow` and `tiled`; and the size of all."""
        rows, at = [], 0
        for k, (inputs, outputs) in enumerate(pairwise(units)):
            turned = self._turned(k)
            stride = padded(inputs if turned else outputs, self._dtype)
            lines = outputs if turned else inputs
            rows.append((inputs, outputs, at, stride, at + lines * stride))
            at += lines * stride + padded(outputs, self._dtype)
        return np.array(rows, np.int64), at

    def _turned(self, layer: int) -> bool:
        return (layer == 0) != self._narrow

    def _parts(self, whole: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
        """W1 (inputs, width), b1 (width,), and so on: where they lie in an array like theta."""
        for k, (inputs, outputs, at, stride, bias) in enumerate(self._layers.tolist()):
            W = whole[at : at + (bias - at) // stride * stride].reshape(-1, stride)
            yield W[:outputs, :inputs].T if self._turned(k) else W[:inputs, :outputs]
            yield whole[bias : bias + outputs]

    def _space(self, points: tuple[Any, ...]) -> tuple[Any, ...]:
        kind, lanes = self._dtype, lanes_of(self._dtype)
        classes = padded(self._classes, kind)
        size = max(some[0].shape[1] for some in (points, self._batch, self._val))
        ends = zeros((self._classes, lanes), kind), zeros((size,), kind), np.zeros(3)
        if self._narrow:
            logits = zeros((self._classes, points[0].shape[1]), kind)
            return logits, ends[0], zeros((classes,), kind), *ends[1:]
        depth = len(self._layers) - 1
        width = padded(int(self._layers[0, 1]), kind)
        return (
            zeros((depth, width, TILE), kind),
            zeros((2, width, TILE), kind),
            zeros((classes, TILE), kind),
            zeros((TILE, width), kind),
            zeros((TILE, classes), kind),
            zeros((self._theta.size,), kind),
            zeros((1,), kind),
            *ends,
        )

    def _counted(self, points: Points) -> int:
        """Numbers right that are kept of some points: of each class, or one."""
        return 1 if points.even and not self._recalls else self._classes

    @cached_property
    def _places(self) -> npt.NDArray[np.int64]:
        return np.concatenate([p.ravel() for p in self._parts(np.arange(self._theta.size))])

    @property
    def layout(self) -> tuple[Any, ...]:
        """Sizes as types, base, training points, layers, place of each parameter, dtype."""
        return self._dims, self._base, self._train, self._layers, self._places, self._dtype

    @property
    def theta(self) -> Float[np.ndarray, " parameters"]:
        """Parameters as in `__init__`, shape (parameters,), in the network's dtype."""
        return np.concatenate([part.ravel() for part in self._parts(self._theta)])

    @property
    def preconditioner(self) -> npt.NDArray[np.float64] | None:
        """Adam's, see `tiltcli.engines.base.Snapshot`; None of others, and before a first step."""
        kind, _, progress, _, squares = self._optimiser
        if kind != ADAM or progress[1] == 1.0:
            return None
        flat = np.concatenate([part.ravel() for part in self._parts(squares)]).astype(np.float64)
        return np.asarray(adam_diagonal(flat, progress[0], progress[1], EPSILON))

    def run(
        self,
        gammas: Float64[np.ndarray, "steps groups"],
        lrs: Float64[np.ndarray, " steps"],
        record: Bool[np.ndarray, " steps"],
        update_last: bool = True,
        keep: bool = False,
    ) -> Steps:
        """Return what steps measured, each before its update; the last may be measured only.

        The numbers do not depend on how steps are divided into calls. With full batches a diverging
        step always is recorded; with others only the first of an epoch may be. `keep`s the trail.
        """
        out = np.full((int(np.count_nonzero(record)) + 1, 3), np.nan)
        rights, val_rights = (np.zeros((len(out), n), np.int64) for n in self._counts)
        trail, slopes = self._room_for(len(lrs) if keep else 0)
        kept, diverged, diverged_loss = descend(
            self._dims,
            self._base,
            self._train,
            self._val,
            self._batch,
            (*self._batches, self._made, self._order),
            (self._theta, self._layers),
            self._work,
            self._val_work,
            self._optimiser,
            as_given(gammas, self._dtype),
            as_given(lrs, np.float64),
            as_given(record, np.bool_),
            update_last,
            out,
            rights,
            val_rights,
            trail,
            slopes,
        )
        self._made += len(lrs)
        loss, weighted, val_loss = out[:kept].T
        at = None if diverged < 0 else int(diverged)
        right, val_right = rights[:kept], val_rights[:kept]
        made = len(lrs) - (not update_last) if at is None else at
        rest = trail[:made], self._places, slopes[:made], gammas[:made], lrs[:made]
        kept_trail = Trail(*rest) if keep else None
        return Steps(
            loss, weighted, right, val_loss, val_right, at, float(diverged_loss), kept_trail
        )

    def _room_for(self, updates: int) -> list[npt.NDArray[Any]]:
        """Rooms for a trail, by turns: memory that is new each time costs a third of a step."""
        self._kept.reverse()
        if updates > len(self._kept[0][0]):
            sizes = self._theta.size, self._work[0].size if self._narrow else 0
            self._kept[0] = [np.empty((updates, size), self._dtype) for size in sizes]
        return [one[:updates] for one in self._kept[0]]

    def measure(self, points: Points, gamma: Float64[np.ndarray, " groups"]) -> Measures:
        """Measure on some points, weighted by Γ (G,)."""
        right = np.zeros(self._counted(points), np.int64)
        loss, weighted = evaluate(
            self._dims,
            self._base,
            points.arrays,
            (self._theta, self._layers),
            self._space(points.arrays),
            as_given(gamma, self._dtype),
            right,
        )
        return Measures(float(loss), float(weighted), right)

    def evaluate(self, points: Points) -> tuple[float, Labels]:
        """Static loss and numbers right, as in `Steps`, on some points."""
        loss, _, right = self.measure(points, np.ones(self._classes))
        return loss, right
