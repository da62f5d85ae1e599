"""Full-batch gradient descent of a one-hidden-layer ReLU network on the weighted cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

EXPLODED = 1e6


@dataclass(frozen=True)
class Block:
    """Recorded metrics of some steps."""

    train_loss: npt.NDArray[np.float64]
    dynamical_loss: npt.NDArray[np.float64]
    train_correct: npt.NDArray[np.int64]
    eval_loss: npt.NDArray[np.float64]
    eval_correct: npt.NDArray[np.int64]
    diverged_at: int | None


class FusedNetwork:
    """State of one job."""

    def __init__(
        self,
        theta: npt.ArrayLike,
        width: int,
        train: tuple[npt.ArrayLike, npt.NDArray[np.int64]],
        evaluations: Sequence[tuple[npt.ArrayLike, npt.NDArray[np.int64]]],
        classes: int,
        dtype: npt.DTypeLike,
    ) -> None:
        self._dtype = np.dtype(dtype)
        self._X, self._y = np.asarray(train[0], self._dtype), train[1]
        self._evaluations = evaluations
        inputs = self._X.shape[1]
        ends = np.cumsum([inputs * width, width, width * classes])
        W1, b1, W2, b2 = np.split(np.array(theta, self._dtype), ends)
        self._parts = [W1.reshape(inputs, width), b1, W2.reshape(width, classes), b2]

    @property
    def theta(self) -> npt.NDArray[Any]:
        """Parameters, flat."""
        return np.concatenate([part.ravel() for part in self._parts])

    def _forward(self, X: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        W1, b1, W2, b2 = self._parts
        hidden = np.maximum(X @ W1 + b1, 0)
        logits = hidden @ W2 + b2
        shifted = logits - logits.max(axis=1, keepdims=True)
        return hidden, shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))

    def evaluate(self, X: npt.ArrayLike, y: npt.NDArray[np.int64]) -> tuple[float, int]:
        """Static loss and number right."""
        _, log_p = self._forward(np.asarray(X, self._dtype))
        loss = -log_p[np.arange(len(y)), y].mean(dtype=np.float64)
        return float(loss), int((log_p.argmax(axis=1) == y).sum())

    def run(
        self,
        gammas: npt.NDArray[np.float64],
        lrs: npt.NDArray[np.float64],
        record: npt.NDArray[np.bool_],
        update_last: bool = True,
    ) -> Block:
        """Make steps; see the fused engine."""
        rows: list[tuple[float, float, int, list[tuple[float, int]]]] = []
        X, y, n = self._X, self._y, np.arange(len(self._y))
        diverged = None
        with np.errstate(all="ignore"):
            for i, gamma in enumerate(gammas):
                hidden, log_p = self._forward(X)
                each = -log_p[n, y].astype(np.float64)
                loss = float(each.mean())
                bad = not np.isfinite(loss) or loss > EXPLODED
                if record[i] or bad:
                    right = int((log_p.argmax(axis=1) == y).sum())
                    scores = [self.evaluate(*part) for part in self._evaluations]
                    rows.append((loss, float((gamma[y] * each).mean()), right, scores))
                if bad:
                    diverged = i
                    break
                if i == len(gammas) - 1 and not update_last:
                    break
                d = np.exp(log_p)
                d[n, y] -= 1
                d *= (gamma[y] / len(y)).astype(self._dtype)[:, None]
                dh = (d @ self._parts[2].T) * (hidden > 0)
                steps = (X.T @ dh, dh.sum(axis=0), hidden.T @ d, d.sum(axis=0))
                for part, step in zip(self._parts, steps, strict=True):
                    part -= self._dtype.type(lrs[i]) * step
        m = len(self._evaluations)
        return Block(
            np.array([row[0] for row in rows]),
            np.array([row[1] for row in rows]),
            np.array([row[2] for row in rows], dtype=np.int64),
            np.array([[s[0] for s in row[3]] for row in rows]).reshape(len(rows), m),
            np.array([[s[1] for s in row[3]] for row in rows], dtype=np.int64).reshape(
                len(rows), m
            ),
            diverged,
        )
