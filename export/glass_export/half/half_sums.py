"""What FP16 costs where products are summed in half too, simulated on the CPU.

A builder may choose kernels that round the running sum to half after every few products: GeForce cards do so at twice
the speed, and NVIDIA's libraries have as many kernels of that kind as of the other. The parity gate must know what that
costs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from glass_export.graphs import PixelsToEmbedding
from glass_export.model import copy_sharing_weights

PRODUCTS = 16  # that a tensor core adds up before the sum is rounded: the depth of one instruction (PTX, mma.m16n8k16)


def summed_in_half(graph: PixelsToEmbedding) -> PixelsToEmbedding:
    """A copy of a `narrowed` graph in FP16 whose matrices and convolutions round their running sums to half.

    Convolutions round after `PRODUCTS` channels, with all places of the kernel in between. Attention's two products
    keep their float32 sums.
    """
    result = copy_sharing_weights(graph)
    assert isinstance(result, PixelsToEmbedding)
    for name, layer in list(result.named_modules()):
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.weight.dtype == torch.float16:
            result.set_submodule(name, _SummedInHalf(layer))
    return result.eval()


class _SummedInHalf(nn.Module):
    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.axis = 1 if isinstance(layer, nn.Conv2d) else -1

    def forward(self, values: Tensor) -> Tensor:
        """Same shape as the layer's, half."""
        weight, bias = self.layer.weight.float(), self.layer.bias
        depth = weight.shape[1]
        wide = values.float()
        total: Tensor | None = None
        for start in range(0, depth, PRODUCTS):
            part = self._product(wide, weight[:, start : start + PRODUCTS], start)
            total = (part if total is None else total.float() + part).half()
        assert total is not None, "a layer has inputs"
        if bias is None:
            return total
        return total + (bias if self.axis == -1 else bias[:, None, None])

    def _product(self, values: Tensor, weight: Tensor, start: int) -> Tensor:
        if isinstance(self.layer, nn.Linear):
            return nn.functional.linear(values[..., start : start + PRODUCTS], weight)
        layer = self.layer
        # A grouped convolution has as many channels of weights as a group has, of values as all groups have.
        some = values if layer.groups > 1 else values[:, start : start + PRODUCTS]
        return nn.functional.conv2d(some, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
