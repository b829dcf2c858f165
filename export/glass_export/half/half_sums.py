"""What an engine loses whose library keeps its running sums in half: simulated, since no graph forbids it everywhere.

NVIDIA's half instructions multiply matrices 16 products deep; with half accumulators the sum so far is rounded to half
after each. They are twice as fast on desktop cards, and a library may choose them. Simulated, ViT-B/16 drifts by 2.6e-3
(untrained weights, two views); on an H100 that summed in half it drifted by 2.5e-3 (sixteen).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from glass_export.graphs import FusableAttention, PixelsToEmbedding
from glass_export.half.precision import SummedInFloat32
from glass_export.model import copy_sharing_weights

PRODUCTS_AT_ONCE = 16


def summed_in_half(graph: PixelsToEmbedding) -> PixelsToEmbedding:
    """A copy of a graph `narrowed` to float16 whose products of matrices round their running sums to half.

    Convolutions count as such, as libraries compute them; but not those by groups of channels, which are no work for
    those instructions and are summed in float32.
    """
    result = copy_sharing_weights(graph)
    assert isinstance(result, PixelsToEmbedding)
    for name, layer in list(result.named_modules()):
        if isinstance(layer, FusableAttention):
            layer.product = half_product
        elif isinstance(layer, (nn.Linear, nn.Conv2d)) and layer.weight.dtype == torch.float16:
            result.set_submodule(name, _replaced(layer))
    return result.eval()


def half_product(first: Tensor, second: Tensor) -> Tensor:
    """float16 (..., M, K) @ (..., K, N), the sum rounded to half every 16 products; other types as usual."""
    if first.dtype != torch.float16:
        return first @ second
    shape = (*np.broadcast_shapes(first.shape[:-2], second.shape[:-2]), first.shape[-2], second.shape[-1])
    left, right = (
        tensor.to(torch.float32).expand(*shape[:-2], *tensor.shape[-2:]).reshape(-1, *tensor.shape[-2:])
        for tensor in (first, second)
    )
    total = torch.zeros(len(left), *shape[-2:])
    rounded = torch.empty_like(total, dtype=torch.float16)
    for start in range(0, left.shape[-1], PRODUCTS_AT_ONCE):
        part = slice(start, start + PRODUCTS_AT_ONCE)
        total.baddbmm_(left[..., part], right[:, part])
        rounded.copy_(total)
        total.copy_(rounded)
    return rounded.reshape(shape)


def _replaced(layer: nn.Linear | nn.Conv2d) -> nn.Module:
    if isinstance(layer, nn.Linear):
        return _LinearInHalf(layer)
    return _ConvInHalf(layer) if layer.groups == 1 else SummedInFloat32(layer)


class _LinearInHalf(nn.Module):
    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, values: Tensor) -> Tensor:
        rows = values.reshape(-1, self.layer.in_features)
        result = half_product(rows, self.layer.weight.T).reshape(*values.shape[:-1], -1)
        return result if self.layer.bias is None else result + self.layer.bias


class _ConvInHalf(nn.Module):
    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, planes: Tensor) -> Tensor:
        layer, batch, height = self.layer, planes.shape[0], planes.shape[2]
        kernel, dilation, padding, stride = layer.kernel_size, layer.dilation, layer.padding, layer.stride
        assert not isinstance(padding, str), "no backbone pads by name"
        windows = functional.unfold(planes.to(torch.float32), kernel, dilation, padding, stride)  # (N, C * kernel, L)
        by_place = windows.reshape(batch, layer.in_channels, -1, windows.shape[2]).transpose(1, 2)  # as libraries sum
        weights = layer.weight.flatten(2).transpose(1, 2).flatten(1)  # (out, kernel * C)
        products = half_product(weights, by_place.flatten(1, 2).to(torch.float16))  # (N, out, L)
        high = (height + 2 * padding[0] - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
        result = products.reshape(batch, layer.out_channels, high, -1)
        return result if layer.bias is None else result + layer.bias[:, None, None]
