"""Parameters at epoch 0, as plain arrays that every engine starts from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tiltcli.data.array_files import load_arrays
from tiltcli.errors import Fault, UserError
from tiltcli.grid.jobs import Job
from tiltcli.grid.paths import digest_of, unchanged

Array = npt.NDArray[np.float64]

# Standard deviation of a standard normal cut off at ±2: dividing by it restores the wanted one.
_TRUNCATED_STD = 0.87962566103423978

MYRTLE5_POOLS = (0, 1, 1, 3)
"""2 × 2 average pools after each of Myrtle5's four convolutions."""


@dataclass(frozen=True)
class Weights:
    """Parameters of relu(X W1 + b1) W2 + b2, float64."""

    W1: Array  # (inputs, width)
    b1: Array  # (width,)
    W2: Array  # (width, classes)
    b2: Array  # (classes,)

    @property
    def theta(self) -> Array:
        """All parameters flat: W1 row by row, b1, W2 row by row, b2."""
        return np.concatenate([part.ravel() for part in (self.W1, self.b1, self.W2, self.b2)])

    @staticmethod
    def unflatten(theta: npt.ArrayLike, inputs: int, width: int, classes: int) -> Weights:
        """Inverse of `theta`."""
        flat = np.asarray(theta, dtype=np.float64)
        hidden = (inputs + 1) * width
        out = hidden + width * classes
        W1, b1 = flat[: inputs * width], flat[inputs * width : hidden]
        W2, b2 = flat[hidden:out], flat[out:]
        return Weights(W1.reshape(inputs, width), b1, W2.reshape(width, classes), b2)


def takes_pictures(job: Job) -> bool:
    """Whether the job's network takes pictures rather than rows of inputs."""
    return bool(job["model.kind"] != "mlp")


def is_own(job: Job) -> bool:
    """Whether the job's network is made by a factory of the user's."""
    return bool(job["model.kind"] == "python")


def depth_of(job: Job) -> int:
    """Hidden layers of a perceptron."""
    return int(job.get("model.depth") or 1)


def has_one_hidden_layer(job: Job) -> bool:
    """Whether the job's network is a perceptron with one hidden layer, see `Weights`."""
    return not takes_pictures(job) and depth_of(job) == 1


def parameter_shapes(job: Job, sample: Sequence[int], classes: int) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every parameter of the job's network, in order.

    Raises:
        UserError: if the network cannot take such samples.

    """
    width = int(job["model.width"] or 0)
    if not takes_pictures(job):
        units = [*sample, *[width] * depth_of(job), classes]
        layers: dict[str, tuple[int, ...]] = {}
        for number, (inputs, outputs) in enumerate(pairwise(units), 1):
            layers |= {f"W{number}": (inputs, outputs), f"b{number}": (outputs,)}
        return layers
    if len(sample) != 3:
        raise UserError(
            Fault(
                f'got "{job["model.kind"]}", which needs pictures (channels, height, width), and '
                f'data.kind = "{job["data.kind"]}" with samples of shape {tuple(sample)}; '
                "allowed for these: mlp",
                key="model.kind",
            )
        )
    channels, *sides = sample
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, pools in enumerate(MYRTLE5_POOLS, 1):
        shapes[f"conv{layer}.weight"] = (width, channels, 3, 3)
        shapes[f"conv{layer}.bias"] = (width,)
        channels = width
        for _ in range(pools):
            sides = [max(side // 2, 1) for side in sides]
    shapes["dense.weight"] = (classes, width * sides[0] * sides[1])
    shapes["dense.bias"] = (classes,)
    return shapes


def initial_parameters(job: Job, sample: Sequence[int], classes: int) -> dict[str, Array]:
    """Return the parameters a job starts from, drawn or read, by name, in the network's order.

    A perceptron layer by layer as the authors': weights Glorot, truncated normal at two standard
    deviations with standard deviation √(2 / (fan_in + fan_out)) after truncation; biases normal
    with 0.01.
    Myrtle5: weights He-normal, standard deviation √(2 / fan_in), biases zero. Drawn in float64
    by PCG64(train.seed) whatever the job's dtype, so that both precisions start from one point.
    """
    shapes = parameter_shapes(job, sample, classes)
    if job.get("model.init_file"):
        return _read(shapes, job)
    generator = np.random.Generator(np.random.PCG64(int(job["train.seed"])))
    if takes_pictures(job):
        return {name: _he_normal(generator, shape) for name, shape in shapes.items()}
    return {name: _authors(generator, shape) for name, shape in shapes.items()}


def check_network(job: Job, sample: Sequence[int], classes: int) -> None:
    """Check that the job's network takes such samples and its file of parameters fits."""
    shapes = parameter_shapes(job, sample, classes)
    if job.get("model.init_file"):
        _read(shapes, job)


def _authors(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    if len(shape) == 1:
        return np.asarray(0.01 * generator.standard_normal(shape))
    std = math.sqrt(2.0 / sum(shape)) / _TRUNCATED_STD
    values: Array = std * _truncated(generator, shape[0] * shape[1])
    return values.reshape(shape)


def _he_normal(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    if len(shape) == 1:
        return np.zeros(shape)
    fan_in = int(np.prod(shape[1:]))
    return np.asarray(np.sqrt(2.0 / fan_in) * generator.standard_normal(shape))


def _truncated(generator: np.random.Generator, count: int) -> Array:
    """Standard normals within ±2, by drawing again those outside."""
    values = generator.standard_normal(count)
    while len(outside := np.flatnonzero(np.abs(values) > 2)):
        values[outside] = generator.standard_normal(len(outside))
    return values


def _read(wanted: dict[str, tuple[int, ...]], job: Job) -> dict[str, Array]:
    path = Path(job.files.get("model.init_file", job["model.init_file"]))
    with unchanged(path, job.get("model.init_digest"), digest_of):
        arrays = load_arrays(path)
    network = f"{job['model.kind']} of width {job['model.width']} on this data"
    faults = []
    further = f"W{len(wanted) // 2 + 1}"
    if not takes_pictures(job) and further in arrays:
        faults.append(
            f"{path}: has an array {further}, a layer more than model.depth = {depth_of(job)} has; "
            f"needed: {', '.join(wanted)}"
        )
    for name, shape in wanted.items():
        if name not in arrays:
            faults.append(f"{path}: has no array {name}; needed: {', '.join(wanted)}")
        elif arrays[name].shape != shape:
            faults.append(f"{path}: {name} has shape {arrays[name].shape}; {network} needs {shape}")
        elif arrays[name].dtype.kind not in "fiu" or not np.isfinite(arrays[name]).all():
            faults.append(f"{path}: {name} holds what is not a finite number")
    if faults:
        raise UserError(*faults)
    return {name: np.ascontiguousarray(arrays[name], dtype=np.float64) for name in wanted}
