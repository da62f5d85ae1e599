"""Parameters at epoch 0, as plain arrays that every engine starts from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tiltcli.data.files import load_arrays
from tiltcli.records import UserError
from tiltcli.spec.jobs import Job

Array = npt.NDArray[np.float64]

# Standard deviation of a standard normal cut off at ±2: dividing by it restores the wanted one.
_TRUNCATED_STD = 0.87962566103423978


@dataclass(frozen=True)
class Weights:
    """Parameters of relu(X W1 + b1) W2 + b2, float64.

    Attributes:
        W1: (inputs, width).
        b1: (width,).
        W2: (width, classes).
        b2: (classes,).

    """

    W1: Array
    b1: Array
    W2: Array
    b2: Array

    @property
    def theta(self) -> Array:
        """All parameters flat: W1 row by row, b1, W2 row by row, b2."""
        return np.concatenate([part.ravel() for part in (self.W1, self.b1, self.W2, self.b2)])

    @staticmethod
    def unflatten(theta: npt.ArrayLike, inputs: int, width: int, classes: int) -> Weights:
        """Inverse of `theta`."""
        flat = np.asarray(theta, dtype=np.float64)
        ends = np.cumsum([inputs * width, width, width * classes])
        W1, b1, W2, b2 = np.split(flat, ends)
        return Weights(W1.reshape(inputs, width), b1, W2.reshape(width, classes), b2)


def initial_weights(job: Job, inputs: int, classes: int) -> Weights:
    """Draw or read the parameters a job starts from.

    As the authors': weights Glorot, truncated normal at two standard deviations with standard
    deviation √(2 / (fan_in + fan_out)) after truncation; biases normal with 0.01. Drawn in
    float64 whatever the job's dtype, so that both precisions start from the same point.

    Raises:
        UserError: if the job's weights file does not fit the network.

    """
    width = int(job["model.width"])
    if job.get("model.init_file"):
        return _read(job, inputs, width, classes)
    generator = np.random.Generator(np.random.PCG64(int(job["train.seed"])))

    def glorot(fan_in: int, fan_out: int) -> Array:
        std = np.sqrt(2.0 / (fan_in + fan_out)) / _TRUNCATED_STD
        values: Array = std * _truncated(generator, fan_in * fan_out)
        return values.reshape(fan_in, fan_out)

    W1 = glorot(inputs, width)
    b1 = 0.01 * generator.standard_normal(width)
    W2 = glorot(width, classes)
    b2 = 0.01 * generator.standard_normal(classes)
    return Weights(W1, b1, W2, b2)


def _truncated(generator: np.random.Generator, count: int) -> Array:
    """Standard normals within ±2, by drawing again those outside."""
    values = generator.standard_normal(count)
    while (outside := np.abs(values) > 2).any():
        values[outside] = generator.standard_normal(int(outside.sum()))
    return values


def _read(job: Job, inputs: int, width: int, classes: int) -> Weights:
    from pathlib import Path

    path = Path(job.files.get("model.init_file", job["model.init_file"]))
    arrays = load_arrays(path)
    wanted = {"W1": (inputs, width), "b1": (width,), "W2": (width, classes), "b2": (classes,)}
    faults = []
    for name, shape in wanted.items():
        if name not in arrays:
            faults.append(f"{path}: has no array {name}; needed: {', '.join(wanted)}")
        elif arrays[name].shape != shape:
            faults.append(
                f"{path}: {name} has shape {arrays[name].shape}; a network of width "
                f"{width} on {inputs} inputs and {classes} classes needs {shape}"
            )
        elif arrays[name].dtype.kind not in "fiu" or not np.isfinite(arrays[name]).all():
            faults.append(f"{path}: {name} holds what is not a finite number")
    if faults:
        raise UserError(*faults)
    return Weights(*(np.ascontiguousarray(arrays[name], dtype=np.float64) for name in wanted))
