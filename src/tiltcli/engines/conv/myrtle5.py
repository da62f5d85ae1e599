"""Myrtle5 on a processor: convolutions from `layers`, the dense layer and the loss from torch.

With few channels this is several times as fast as torch's own convolutions; with many, torch's are
as fast or faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tiltcli.engines.conv.layers import LAYERS, allocate, backward, forward, layers_of
from tiltcli.engines.lanes import LANES, REGISTERS
from tiltcli.networks.models import Myrtle5

if TYPE_CHECKING:
    from jaxtyping import Float

LARGEST = 64 if REGISTERS.parts == 1 else 16
"""Channels up to which this way is taken, as measured with vectors of 64 and of 32 bytes."""


class BlockedMyrtle5:
    """Logits of a network, as it would compute them itself; their gradient can be taken once.

    A last block of fewer than `lanes` samples takes as long.
    """

    def __init__(self, network: Myrtle5, sample: Sequence[int]) -> None:
        self._network = network
        names = [f"conv{k + 1}.{part}" for k in range(LAYERS) for part in ("weight", "bias")]
        self._parameters = [network.get_parameter(name) for name in names]
        self._dtype = np.dtype(str(self._parameters[0].dtype).removeprefix("torch."))
        self.lanes = LANES[self._dtype.name]
        self._layers = layers_of(sample, len(self._parameters[0]))
        self._sample = tuple(sample)
        self._blocks = 0
        self._calls = 0

    def __call__(
        self, X: Float[Tensor, "samples channels rows columns"]
    ) -> Float[Tensor, "samples classes"]:
        """Logits (samples, classes) of pictures (samples, channels, rows, columns)."""
        samples = X.permute(0, 2, 3, 1).contiguous()
        if torch.is_grad_enabled():
            features = _Features.apply(self, samples, *self._parameters)  # type: ignore[no-untyped-call]
        else:
            # What is made on the way stays in the cache where every block overwrites the last.
            features = self.features(samples, self._parameters, keep=False)[0]
        return functional.linear(features, self._network.dense.weight, self._network.dense.bias)

    def _reserve(self, blocks: int) -> None:
        if blocks > self._blocks:
            self._blocks = blocks
            channels, rows, columns = self._sample
            shape = (blocks, channels, rows + 2, columns + 2, self.lanes)
            self._first = np.zeros(shape, self._dtype)
            self._arrays = tuple(
                allocate(layer, number == LAYERS - 1, blocks, self._dtype)
                for number, layer in enumerate(self._layers)
            )

    def features(
        self,
        X: Float[Tensor, "samples rows columns channels"],
        parameters: Sequence[Tensor],
        keep: bool = True,
    ) -> tuple[Float[Tensor, "samples features"], int]:
        """Features (samples, numbers) and the number of the call; to `keep` allows a gradient."""
        self._reserve(-(-len(X) // self.lanes) if keep else 1)
        self._calls += 1
        plain = [p.detach().contiguous().numpy() for p in parameters]
        channels, *places = self._layers[-1].pool[:3]
        out = np.empty((len(X), *places, channels), self._dtype)
        forward(
            *(X.numpy(), self._first, self._layers, self._arrays),
            *(tuple(plain[::2]), tuple(plain[1::2]), out, keep),
        )
        return torch.from_numpy(out.transpose(0, 3, 1, 2).reshape(len(X), -1)), self._calls

    def gradients(self, gradient: Float[Tensor, "samples features"], call: int) -> list[Tensor]:
        """Gradients of the parameters, given that of the features of a call, the last one."""
        if call != self._calls:
            raise RuntimeError("what the network made then has been overwritten since")
        found = [np.empty(p.shape, self._dtype) for p in self._parameters]
        given = gradient.numpy().reshape(len(gradient), *self._layers[-1].pool[:3])
        given = np.ascontiguousarray(given.transpose(0, 2, 3, 1))
        for own in self._arrays:
            own.weight_sums.fill(0)
            own.bias_sums.fill(0)
        backward(
            *(given, self._first, self._layers, self._arrays),
            *(tuple(found[::2]), tuple(found[1::2])),
        )
        return [torch.from_numpy(one) for one in found]


class _Features(torch.autograd.Function):
    """The convolutions as one operation of torch's."""

    @staticmethod
    def forward(ctx: Any, blocked: BlockedMyrtle5, X: Tensor, *parameters: Tensor) -> Tensor:
        ctx.blocked = blocked
        features, ctx.call = blocked.features(X, parameters)
        return features

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *ctx.blocked.gradients(gradient, ctx.call))
