"""A network of the user's own, as the factory that the grid file names makes it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tiltcli.data import Dataset
from tiltcli.errors import Fault, UserError
from tiltcli.grid.factories import call, fault_of, load, user_error
from tiltcli.grid.jobs import Job
from tiltcli.grid.settings import given_arguments

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
