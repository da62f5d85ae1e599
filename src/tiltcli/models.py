"""Networks as torch modules."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tiltcli.initial import Weights


class OneHiddenLayer(nn.Module):
    """relu(X W1 + b1) W2 + b2.

    Args:
        weights: the parameters to start from.
        dtype: torch.float32 or torch.float64.

    """

    W1: Tensor
    b1: Tensor
    W2: Tensor
    b2: Tensor

    def __init__(self, weights: Weights, dtype: torch.dtype) -> None:
        super().__init__()
        for name in ("W1", "b1", "W2", "b2"):
            value = torch.from_numpy(getattr(weights, name).copy()).to(dtype)
            self.register_parameter(name, nn.Parameter(value))

    def forward(self, X: Tensor) -> Tensor:
        """Logits (samples, classes) of inputs (samples, inputs)."""
        hidden = torch.relu(X @ self.W1 + self.b1)
        return hidden @ self.W2 + self.b2
