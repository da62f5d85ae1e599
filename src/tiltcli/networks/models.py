"""Networks as torch modules: the built-in ones, and the user's own as their factory makes it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parameter import is_lazy

from tiltcli.data import Dataset
from tiltcli.errors import Fault, UserError
from tiltcli.grid.factories import call, fault_of, load, user_error
from tiltcli.grid.jobs import Job
from tiltcli.grid.settings import given_arguments
from tiltcli.networks.initial import MYRTLE5_POOLS, Array, initial_parameters, is_own

CHECKED = 64
"""Samples that a network is tried on before it is trained."""

_drawing = threading.RLock()


class Dice:
    """Torch's random numbers for one training: it draws on where it stopped, whoever else draws."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # of the processor's generator, and a CUDA device's where the training is there
        self.state: list[Tensor] = []

    def keep(self) -> None:
        """Go on from the generators as they are now."""
        self.state = [torch.get_rng_state()]
        if self._device.type == "cuda":
            self.state.append(torch.cuda.get_rng_state(self._device))

    @contextmanager
    def cast(self) -> Iterator[None]:
        """Draw from these numbers within the body; no other training draws in the meantime."""
        with _drawing:
            torch.set_rng_state(self.state[0])
            if self._device.type == "cuda":
                torch.cuda.set_rng_state(self.state[1], self._device)
            yield
            self.keep()


def make_network(
    job: Job, sample: Sequence[int], classes: int, dtype: torch.dtype, dice: Dice | None = None
) -> nn.Module:
    """Call the factory after seeding torch's generators, which are left as they were.

    Return the module on the processor, in training mode; `dice` goes on from where the factory left
    the generators.
    """  # noqa: DOC201, DOC501 - by what it calls
    factory = job.files["model.factory"]
    make = load(factory, job["model.factory_digest"])
    known = {"width": job.get("model.width"), "sample_shape": tuple(sample), "classes": classes}
    args = given_arguments(job.settings, "model.args")
    with _drawing, torch.random.fork_rng():
        torch.manual_seed(int(job["train.seed"]))
        network = call(factory, make, known, args, "model.args", job["model.factory_digest"])
        if not isinstance(network, nn.Module):
            said = f"returned {type(network).__name__}; needed: a torch.nn.Module"
            raise UserError(fault_of(factory, said, make))
        network.to(dtype)
        if any(is_lazy(p) for p in network.parameters()):
            # Lazy layers get their shapes from a first look.
            _logits(network.eval(), torch.zeros(1, *sample, dtype=dtype), factory)
        if dice is not None:
            dice.keep()
    return network.train()


def check_own(job: Job, data: Dataset) -> None:
    """Try a user's network on a few samples, in training and in evaluation mode."""
    dtype = getattr(torch, job["train.dtype"])
    factory = job.files["model.factory"]
    network = make_network(job, data.sample_shape, data.classes, dtype)
    make = load(factory, job["model.factory_digest"])
    if not any(p.requires_grad for p in network.parameters()):
        said = "returned a network with nothing to train: no parameter"
        raise UserError(fault_of(factory, said, make))
    samples, batch = len(data.train), job["train.batch_size"]
    batch = samples if batch == "full" else min(int(batch), samples)
    for size in {min(size, CHECKED) for size in (batch, samples % batch or batch)}:
        X = torch.from_numpy(data.train.X[:size]).to(dtype)
        for mode in (True, False):
            with torch.random.fork_rng():
                logits = _logits(network.train(mode), X, factory)
            if problem := _problem(logits, (size, data.classes)):
                name = "training" if mode else "evaluation"
                said = f"returned a network that gives {problem}, for inputs of shape "
                said += f"{tuple(X.shape)} in {name} mode, before any step; needed: finite logits "
                said += f"of shape {(size, data.classes)}, one for each class"
                forward = getattr(type(network), "forward", make)
                raise UserError(fault_of(factory, said, forward, make))


def _logits(network: nn.Module, X: Tensor, factory: str) -> Any:
    try:
        with torch.no_grad():
            return network(X)
    except Exception as error:
        fault = user_error(error, factory).faults[0]
        mode = "training" if network.training else "evaluation"
        said = f"{fault.message}, for inputs of shape {tuple(X.shape)} in {mode} mode"
        raise UserError(Fault(said, line=fault.line, source=fault.source)) from error


def _problem(logits: Any, wanted: tuple[int, int]) -> str:
    if not isinstance(logits, Tensor):
        return type(logits).__name__
    if tuple(logits.shape) != wanted:
        return f"logits of shape {tuple(logits.shape)}"
    if not logits.is_floating_point():
        return f"logits of dtype {logits.dtype}"
    return "" if bool(torch.isfinite(logits).all()) else "NaN or infinite logits"


class Perceptron(nn.Module):
    """Hidden layers of ReLUs: relu(X W1 + b1) W2 + b2 with one of them.

    It starts from W1 (inputs, width), b1, W2, b2, …; the last W has a column for each class.
    """

    def __init__(self, parameters: Mapping[str, Array], dtype: torch.dtype) -> None:
        super().__init__()
        self.layers = len(parameters) // 2
        for number in range(1, self.layers + 1):
            for name in (f"W{number}", f"b{number}"):
                value = torch.from_numpy(parameters[name].copy()).to(dtype)
                self.register_parameter(name, nn.Parameter(value))

    def forward(self, X: Tensor) -> Tensor:
        """Logits (samples, classes) of inputs (samples, inputs)."""
        for number in range(1, self.layers + 1):
            W, b = getattr(self, f"W{number}"), getattr(self, f"b{number}")
            X = (torch.relu(X) if number > 1 else X) @ W + b
        return X


class Myrtle5(nn.Module):
    """Four 3×3 convolutions and a dense layer, after Shankar et al. (2020, arXiv:2003.02237).

    conv–ReLU, conv–ReLU, pool, conv–ReLU, pool, conv–ReLU, pool, pool, pool, flatten, dense. The
    convolutions keep the size (zero padding), the pools average 2 × 2 places; a side that is down
    to one place stays. 32 × 32 pictures thus end in a mean over all places of each channel. It
    starts from conv1.weight (width, channels, 3, 3), conv1.bias (width,), … conv4.bias,
    dense.weight (classes, width · places left), dense.bias.
    """

    def __init__(self, parameters: Mapping[str, Array], dtype: torch.dtype) -> None:
        super().__init__()
        for layer in range(1, len(MYRTLE5_POOLS) + 1):
            width, channels = parameters[f"conv{layer}.weight"].shape[:2]
            # Without memory until filled below: torch's own draw would be thrown away.
            conv = nn.Conv2d(channels, width, 3, padding=1, device="meta")
            setattr(self, f"conv{layer}", conv)
        classes, inputs = parameters["dense.weight"].shape
        self.dense = nn.Linear(inputs, classes, device="meta")
        start = {name: torch.tensor(value, dtype=dtype) for name, value in parameters.items()}
        self.load_state_dict(start, assign=True)

    def forward(self, X: Tensor) -> Tensor:
        """Logits (samples, classes) of pictures (samples, channels, height, width)."""
        for layer, pools in enumerate(MYRTLE5_POOLS, 1):
            X = torch.relu(getattr(self, f"conv{layer}")(X))
            for _ in range(pools):
                window = [min(side, 2) for side in X.shape[-2:]]
                if window != [1, 1]:
                    X = functional.avg_pool2d(X, window)
        logits: Tensor = self.dense(X.flatten(1))
        return logits


def tensors_of(network: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the parameters that are trained, by name, and what else the logits hang on.

    That is parameters that are frozen, and buffers, such as a batch norm's means.
    """
    named = dict(network.named_parameters())
    trained: dict[str, Tensor] = {name: p for name, p in named.items() if p.requires_grad}
    frozen = {name: p for name, p in named.items() if not p.requires_grad}
    return trained, {**frozen, **dict(network.named_buffers())}


def network_of(
    job: Job, sample: Sequence[int], classes: int, dtype: torch.dtype, dice: Dice | None = None
) -> nn.Module:
    """Return a job's network at epoch 0, on the processor; `dice` as in `make_network`."""
    if is_own(job):
        return make_network(job, sample, classes, dtype, dice)
    return NETWORKS[job["model.kind"]](initial_parameters(job, sample, classes), dtype)


NETWORKS: dict[str, type[Perceptron] | type[Myrtle5]] = {"mlp": Perceptron, "myrtle5": Myrtle5}
"""Networks by the name that `model.kind` has."""
