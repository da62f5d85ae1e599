"""Networks as torch modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from tiltcli.grid.jobs import Job
from tiltcli.networks.initial import MYRTLE5_POOLS, Array, initial_parameters, is_own
from tiltcli.networks.own import Dice, make_network


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
