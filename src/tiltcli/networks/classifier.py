"""A trained network that takes inputs as they come: encoding and standardisation are inside.

As a file that does without this package it is torch.export's, or ONNX.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tiltcli.data.encoding import Encoding, coded, origins
from tiltcli.errors import UserError, hushed
from tiltcli.grid.jobs import Job
from tiltcli.networks.models import network_of, tensors_of

PIECE_ROWS = 4096


class Columns(nn.Module):
    """From the columns of a table to inputs: gaps by the median, texts one-hot."""

    origin: Tensor
    category: Tensor
    median: Tensor

    def __init__(self, encoding: Encoding) -> None:
        super().__init__()
        origin, category, median = zip(*origins(encoding), strict=True)
        self.register_buffer("origin", torch.tensor(origin))
        self.register_buffer("category", torch.tensor(category, dtype=torch.float64))
        self.register_buffer("median", torch.tensor(median, dtype=torch.float64))

    def forward(self, X: Tensor) -> Tensor:
        """Inputs (rows, inputs), float64, of what `coded` gives: (rows, columns), float64."""
        taken = X.to(torch.float64)[:, self.origin]
        numbers = torch.where(torch.isnan(taken), self.median, taken)
        return torch.where(self.category < 0, numbers, (taken == self.category).to(taken.dtype))


class Classifier(nn.Module):
    """A trained network that takes inputs as they were before training prepared them.

    It is in evaluation mode as it is made.

    Args:
        network: from prepared inputs to logits.
        sample_shape: of an input, as the network takes it.
        labels: names of the classes, in the order of the logits.
        scale: mean and spread that broadcast over an input; None: inputs are taken as they are.
        encoding: how the columns of a table become inputs; None for arrays.

    """

    mean: Tensor | None
    spread: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        sample_shape: Sequence[int],
        labels: Sequence[str],
        scale: tuple[Any, Any] | None = None,
        encoding: Encoding | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.sample_shape = tuple(sample_shape)
        self.labels: tuple[str, ...] = tuple(labels)
        self.encoding = encoding
        self.columns = None if encoding is None else Columns(encoding)
        for name, value in zip(("mean", "spread"), scale or (None, None), strict=True):
            kept = None if value is None else torch.tensor(value, dtype=torch.float64)
            self.register_buffer(name, kept)
        self.eval()

    @property
    def raw_shape(self) -> tuple[int, ...]:
        """Shape of one sample as `forward` takes it.

        Of a table it is a number for each column: a text's place among its `categories` (−1: none
        of them), NaN for a gap.
        """
        return self.sample_shape if self.encoding is None else (len(self.encoding),)

    def forward(self, X: Tensor) -> Tensor:
        """Logits (samples, classes) of samples of `raw_shape`, of which arrays may lie flat."""
        X = X.reshape(-1, *self.sample_shape) if self.columns is None else self.columns(X)
        if self.mean is not None and self.spread is not None:
            X = (X.to(torch.float64) - self.mean) / self.spread  # in float64, as for training
        logits: Tensor = self.network(X.to(next(self.network.parameters()).dtype))
        return logits

    @torch.no_grad()
    def logits(self, X: Any) -> npt.NDArray[Any]:
        """Return the logits (rows, classes) of rows of a pandas table, or of an array or tensor.

        Args:
            X: as `predict` takes it.

        Raises:
            UserError: if a table lacks a column, or one holds what training had not; if an array
                is of another shape.

        """
        if hasattr(X, "columns"):
            X = coded(X, self.encoding) if self.encoding is not None else X.to_numpy()
        rows = torch.as_tensor(X if isinstance(X, Tensor) else np.asarray(X))
        size = int(np.prod(self.raw_shape))
        if rows.ndim < 2 or rows[:1].numel() != size * len(rows[:1]):
            wanted = ("rows", *self.raw_shape)
            raise UserError(f"got inputs of shape {tuple(rows.shape)}; needed: {wanted}")
        device = next(self.network.parameters()).device
        found = [self(piece.to(device)).cpu() for piece in torch.split(rows, PIECE_ROWS)]
        return np.asarray(torch.cat(found).numpy())

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the class of each row: whole numbers where all labels are such, else texts.

        Propagates `UserError` if a table lacks a column, or one holds what training had not.

        Args:
            X: rows of a pandas table with the columns that training had, or an array or tensor of
                inputs, as they were before training standardised them.

        """
        names = np.array(self.labels)
        if all(label.lstrip("-").isdecimal() and str(int(label)) == label for label in self.labels):
            names = names.astype(np.int64)
        return np.asarray(names[self.logits(X).argmax(axis=1)])


def named_tensors(
    job: Job, sample: Sequence[int], classes: int, theta: npt.NDArray[np.float64]
) -> dict[str, npt.NDArray[Any]]:
    """Return a job's weights by name, of a snapshot, each in the dtype it has in the network."""
    found, at = {}, 0
    for name, tensor in _tensors(_empty(job, sample, classes)).items():
        like = tensor.detach().numpy()
        found[name] = theta[at : at + like.size].reshape(like.shape).astype(like.dtype)
        at += like.size
    return found


def trained_network(
    job: Job, sample: Sequence[int], classes: int, tensors: Mapping[str, npt.NDArray[Any]]
) -> nn.Module:
    """Return a job's network with the weights of `named_tensors`, in evaluation mode.

    Raises:
        UserError: if they are of another network.

    """
    network = _empty(job, sample, classes)
    own = _tensors(network)
    shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
    if shapes != {name: value.shape for name, value in tensors.items()}:
        raise UserError(f"job {job.id}: its weights are of another network than its settings name")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(torch.from_numpy(np.array(tensors[name])))
    return network.eval()


def _empty(job: Job, sample: Sequence[int], classes: int) -> nn.Module:
    return network_of(job, sample, classes, getattr(torch, str(job["train.dtype"])))


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for some in tensors_of(network) for name, tensor in some.items()}


def write_pt2(path: Path, classifier: Classifier, name: str, facts: str) -> str:
    """Write what `torch.export.load` reads, and in it under a name what is said, in JSON."""
    torch.export.save(_program(classifier), path, extra_files={name: facts})
    return ""


def write_onnx(path: Path, classifier: Classifier, name: str, facts: str) -> str:
    """Write likewise what ONNX runtimes read; returns what the user should know, or nothing."""
    try:
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError:
        raise UserError(
            "ONNX needs onnx and onnxscript, which are not installed: pip install 'tiltcli[onnx]'; "
            "or export to .pt2 or .safetensors"
        ) from None
    said = ""
    convolutions = any(isinstance(m, nn.modules.conv._ConvNd) for m in classifier.modules())
    if convolutions and next(classifier.network.parameters()).dtype == torch.float64:
        classifier.network.float()
        said = "the network is in float32: ONNX runtimes have no convolutions in float64"
    program = _program(classifier)
    with hushed():
        made = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=["inputs"], output_names=["logits"]
        )
    assert made is not None
    made.model.metadata_props[name] = facts
    made.save(path)
    return said


def _program(classifier: Classifier) -> torch.export.ExportedProgram:
    example = torch.zeros(2, *classifier.raw_shape, dtype=torch.float64)
    rows = {0: torch.export.Dim("rows")}
    try:
        with hushed():
            return torch.export.export(classifier, (example,), dynamic_shapes=(rows,))
    except Exception as error:  # of many kinds, and by the user's own code too
        why = str(error).strip().partition("\n")[0][:300]
        raise UserError(
            f"torch.export cannot take this network: {type(error).__name__}: {why}; "
            "export to .safetensors and use tiltcli.load"
        ) from error
