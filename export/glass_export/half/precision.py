"""Half precision decided in the graph: which parts of a backbone compute in 16 bits, and which stay in float32.

Today's builders take the types that a graph spells ("strongly typed"), so this module makes FP16. A backbone is cut
into *units*: its residual blocks, and the layers with weights outside of them. A unit computes in 16 bits or, where the
range probe demands it, in float32; it casts its own input, so a float32 unit hands on values that 16 bits cannot hold.
A transformer block whose matrices are within the range, but not the stream that runs past them, keeps its matrices in
16 bits and adds in float32. Within 16-bit units some layers are float32 *islands*: normalisations, softmax, and
averages over an image, whose sums and squares need float32's digits.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn
from torchvision.models.convnext import CNBlock
from torchvision.models.mobilenetv3 import InvertedResidual
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.vision_transformer import EncoderBlock

from glass_export.backbone import IMAGENET_SCALING, Scaling
from glass_export.graphs import AttentionWeights, FusableAttention, GlobalAverage, PixelsToEmbedding
from glass_export.half.folding import fold_batch_norms
from glass_export.model import copy_sharing_weights

HALF_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
# FusableLayerNorm2d, ConvNeXt's, is a subclass of LayerNorm: its transposes lie inside the island.
# A BatchNorm2d is left where it could not be folded.
ISLANDS = (nn.LayerNorm, nn.BatchNorm2d, AttentionWeights, GlobalAverage)
NO_BFLOAT16 = (nn.Hardswish, nn.Hardsigmoid)  # TensorRT's parser takes them in float32 and half only
STREAMED = EncoderBlock  # its input and its sums pass beside the matrices, and only normalisations read them
_BLOCKS = (STREAMED, CNBlock, BasicBlock, Bottleneck, InvertedResidual)


class Island(nn.Module):
    """A layer that computes in float32; `narrow_to` is the type handed on (None: float32)."""

    def __init__(self, layer: nn.Module, narrow_to: torch.dtype | None) -> None:
        super().__init__()
        self.layer = layer
        self.narrow_to = narrow_to

    def forward(self, values: Tensor) -> Tensor:
        """Same shape as the layer's."""
        result: Tensor = self.layer(values.to(torch.float32))
        return result if self.narrow_to is None else result.to(self.narrow_to)


class Unit(nn.Module):
    """A layer or block that casts its input to the type it computes in."""

    def __init__(self, inner: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner = inner
        self.dtype = dtype

    def forward(self, values: Tensor) -> Tensor:
        """Same shape as the inner module's."""
        result: Tensor = self.inner(values.to(self.dtype))
        return result


class InFloat32(nn.Module):
    """A 16-bit backbone whose embeddings are handed on as float32."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, planes: Tensor) -> Tensor:
        """(N, 3, S, S) float32, normalised -> (N, D) float32."""
        embedding: Tensor = self.backbone(planes)
        return embedding.to(torch.float32)


def prepared(embedder: nn.Module, scaling: Scaling = IMAGENET_SCALING) -> PixelsToEmbedding:
    """The float32 graph that is measured and then narrowed: fusable attention, batch norms folded."""
    graph = PixelsToEmbedding(embedder, scaling).eval()
    graph.backbone = fold_batch_norms(graph.backbone)
    return graph.eval()


def units(backbone: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Blocks, and layers with weights or islands outside blocks, by name, in the order of definition."""

    def walk(prefix: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        for name, child in module.named_children():
            path = f"{prefix}{name}"
            leaf = not any(True for _ in child.children())
            if isinstance(child, (*_BLOCKS, *ISLANDS)) or (leaf and any(True for _ in child.parameters())):
                yield path, child
            else:
                yield from walk(f"{path}.", child)

    return walk("", backbone)


def narrowed(
    graph: PixelsToEmbedding, dtype: torch.dtype, wide: Collection[str] = (), wide_streams: Collection[str] = ()
) -> PixelsToEmbedding:
    """A `prepared` graph in 16 bits, but for the units named in `wide`, which stay float32. Weights are copied.

    `wide` also names lone parameters outside of units (ViT's class token and position embedding). Transformer blocks
    named in `wide_streams` keep 16-bit matrices and add in float32.
    """
    result = copy_sharing_weights(graph)
    assert isinstance(result, PixelsToEmbedding)
    backbone = result.backbone
    placed = list(units(backbone))
    for name, module in placed:
        stream = torch.float32 if name in wide_streams else dtype
        backbone.set_submodule(name, _narrowed_unit(module, dtype, name in wide, stream))
    if dtype == torch.bfloat16:
        for name, layer in list(backbone.named_modules()):
            if isinstance(layer, NO_BFLOAT16) and not any(name.startswith(f"{unit}.") for unit, _ in placed):
                backbone.set_submodule(name, Island(layer, None))
    for name in [name for name, _ in lone_parameters(backbone, placed) if name not in wide]:
        owner, _, leaf = name.rpartition(".")
        narrow = backbone.get_parameter(name).detach().to(dtype)
        setattr(backbone.get_submodule(owner), leaf, nn.Parameter(narrow, requires_grad=False))
    result.backbone = InFloat32(backbone)
    return result.eval()


def lone_parameters(backbone: nn.Module, placed: list[tuple[str, nn.Module]]) -> Iterator[tuple[str, Tensor]]:
    """Parameters that belong to none of the units `placed`, by name."""
    for name, parameter in backbone.named_parameters():
        if not any(name.startswith(f"{unit}.") for unit, _ in placed):
            yield name, parameter


def _narrowed_unit(module: nn.Module, dtype: torch.dtype, wide: bool, stream: torch.dtype) -> nn.Module:
    if isinstance(module, ISLANDS):
        return Island(module, None)  # the next unit casts its own input; the last one's output is the embedding
    if wide:
        return Unit(module, torch.float32)
    own = _with_own_tensors(module, dtype)
    islands = (*ISLANDS, *NO_BFLOAT16) if dtype == torch.bfloat16 else ISLANDS
    for name, layer in list(own.named_modules()):
        if isinstance(layer, FusableAttention):
            layer.scales_query = True
        if name and isinstance(layer, islands):
            own.set_submodule(name, Island(layer, dtype))
    return Unit(own, stream)


def _with_own_tensors(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy in `dtype`, but for the parameters of islands: those keep their float32 digits."""
    own = copy_sharing_weights(module)
    for layer in own.modules():
        if isinstance(layer, ISLANDS):
            continue
        for name, parameter in list(layer._parameters.items()):
            if parameter is not None:
                layer._parameters[name] = nn.Parameter(parameter.detach().to(dtype), requires_grad=False)
        for name, buffer in list(layer._buffers.items()):
            if buffer is not None and buffer.is_floating_point():
                layer._buffers[name] = buffer.to(dtype)
    return own


def measurable(graph: PixelsToEmbedding) -> PixelsToEmbedding:
    """A copy of a `narrowed` graph whose 16-bit layers sum in float32 and round once, as GPUs do.

    The same numbers as PyTorch's own 16-bit layers on the CPU up to the order of sums, in a fraction of the time: its
    depthwise convolutions in half take 30 times as long as in float32.
    """
    result = copy_sharing_weights(graph)
    assert isinstance(result, PixelsToEmbedding)
    for name, layer in list(result.named_modules()):
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.weight.dtype != torch.float32:
            result.set_submodule(name, SummedInFloat32(layer))
    return result.eval()


class SummedInFloat32(nn.Module):
    """A 16-bit layer of 16-bit values whose sums are float32; the result is rounded once."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.dtype = next(layer.parameters()).dtype
        self.layer = copy.deepcopy(layer).to(torch.float32)

    def forward(self, values: Tensor) -> Tensor:
        """Same shape as the layer's."""
        result: Tensor = self.layer(values.to(torch.float32))
        return result.to(self.dtype)
