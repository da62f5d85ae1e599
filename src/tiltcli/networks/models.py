"""Networks as torch modules."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from tiltcli.networks.initial import MYRTLE5_POOLS, Array


class OneHiddenLayer(nn.Module):
    """relu(X W1 + b1) W2 + b2.

    Args:
        parameters: W1 (inputs, width), b1, W2 (width, classes), b2 to start from.
        dtype: torch.float32 or torch.float64.

    """

    W1: Tensor
    b1: Tensor
    W2: Tensor
    b2: Tensor

    def __init__(self, parameters: Mapping[str, Array], dtype: torch.dtype) -> None:
        super().__init__()
        for name in ("W1", "b1", "W2", "b2"):
            value = torch.from_numpy(parameters[name].copy()).to(dtype)
            self.register_parameter(name, nn.Parameter(value))

    def forward(self, X: Tensor) -> Tensor:
        """Logits (samples, classes) of inputs (samples, inputs)."""
        hidden = torch.relu(X @ self.W1 + self.b1)
        return hidden @ self.W2 + self.b2


class Myrtle5(nn.Module):
    """Four 3×3 convolutions and a dense layer, after Shankar et al. (2020, arXiv:2003.02237).

    conv–ReLU, conv–ReLU, pool, conv–ReLU, pool, conv–ReLU, pool, pool, pool, flatten, dense. The
    convolutions keep the size (zero padding), the pools average 2 × 2 places; a side that is down
    to one place stays. 32 × 32 pictures thus end in a mean over all places of each channel.

    Args:
        parameters: conv1.weight (width, channels, 3, 3), conv1.bias (width,), … conv4.bias,
            dense.weight (classes, width · places left), dense.bias, to start from.
        dtype: torch.float32 or torch.float64.

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


NETWORKS: dict[str, type[OneHiddenLayer] | type[Myrtle5]] = {
    "mlp": OneHiddenLayer,
    "myrtle5": Myrtle5,
}
"""Networks by the name that `model.kind` has."""
