"""A trained network as a file that does without this package: torch.export's, or ONNX."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from tiltcli.errors import UserError
from tiltcli.networks.classifier import Classifier


def write_pt2(path: Path, classifier: Classifier, name: str, facts: str) -> None:
    """Write what `torch.export.load` reads, and in it under a name what is said, in JSON."""
    torch.export.save(_program(classifier), path, extra_files={name: facts})


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
    with _quiet():
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
        with _quiet():
            return torch.export.export(classifier, (example,), dynamic_shapes=(rows,))
    except Exception as error:  # of many kinds, and by the user's own code too
        why = str(error).strip().partition("\n")[0][:300]
        raise UserError(
            f"torch.export cannot take this network: {type(error).__name__}: {why}; "
            "export to .safetensors and use tiltcli.load"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Torch's news for its developers is not for our users."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
