"""The modules that are traced: pixels in, embeddings out. Scaling, normalisation and layout are part of the graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models.convnext import CNBlock, LayerNorm2d
from torchvision.models.vision_transformer import EncoderBlock, VisionTransformer

from glass_export.backbone import IMAGENET_SCALING, Scaling
from glass_export.model import Glass, copy_sharing_weights


class PixelsToEmbedding(nn.Module):
    """(N, S, S, 3) uint8 or float32 in 0..255, RGB -> (N, D) float32."""

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, backbone: nn.Module, scaling: Scaling = IMAGENET_SCALING) -> None:
        super().__init__()
        self.backbone = _for_export(backbone)
        self.register_buffer("mean", 255 * torch.tensor(scaling.mean).view(1, 3, 1, 1))
        self.register_buffer("inverse_std", 1 / (255 * torch.tensor(scaling.std)).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        # Cast first: TensorRT's parser refuses to transpose uint8.
        planes = pixels.to(torch.float32).permute(0, 3, 1, 2)
        embedding: Tensor = self.backbone((planes - self.mean) * self.inverse_std)
        return embedding


class FusedGlass(nn.Module):
    """All of GLASS: `global_view` (B, S, S, 3) float32, `crops` (B, K, S, S, 3) uint8 -> probabilities, attention."""

    def __init__(self, model: Glass) -> None:
        super().__init__()
        self.global_model = PixelsToEmbedding(model.global_model, model.scaling)
        self.local_model = PixelsToEmbedding(model.local_model, model.scaling)
        self.head = model

    def forward(self, global_view: Tensor, crops: Tensor) -> tuple[Tensor, Tensor]:
        size = crops.shape[-2]
        local = self.local_model(crops.reshape(-1, size, size, 3))
        local = local.reshape(crops.shape[0], crops.shape[1], -1)
        logits, attention = self.head.pool(self.global_model(global_view), local)
        return torch.softmax(logits, dim=1), attention


class FusableAttention(nn.Module):
    """torchvision's attention with the same weights, written so that it exports as nodes that builders fuse.

    `nn.MultiheadAttention` exports as 578 nodes for ViT-B/16, this as 364. Equal within 3e-6. Projected apart and not
    as one matrix of three: OpenVINO takes the transposes into its attention then, and TensorRT builds the same kernels.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
        self.query_proj, self.key_proj, self.value_proj = map(_linear, weights, biases)
        self.attention_weights = AttentionWeights()
        self.out_proj = attention.out_proj
        self.heads = attention.num_heads
        self.scales_query = False
        self.product: Callable[[Tensor, Tensor], Tensor] = torch.matmul  # another one simulates how libraries sum

    def forward(self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False) -> tuple[Tensor, None]:
        """(N, Q, D), (N, T, D), (N, T, D) -> (N, Q, D)"""
        queries = self._by_head(self.query_proj(query))
        keys = self._by_head(self.key_proj(key)).transpose(-2, -1)
        values = self._by_head(self.value_proj(value))
        scale = queries.shape[-1] ** -0.5
        # In half before the product, where TensorRT wants it and where it cannot overflow; 1/8 here, so it is exact.
        # In float32 after it: ONNX Runtime 1.31 computes nonsense from the other form once it has optimised it twice.
        scores = self.product(queries * scale, keys) if self.scales_query else self.product(queries, keys) * scale
        mixed = self.product(self.attention_weights(scores), values)
        return self.out_proj(mixed.transpose(1, 2).flatten(2)), None

    def _by_head(self, tokens: Tensor) -> Tensor:
        batch, length, dim = tokens.shape
        return tokens.reshape(batch, length, self.heads, dim // self.heads).transpose(1, 2)


class AttentionWeights(nn.Module):
    """Softmax over the last axis; a module of its own, so that precision can be set and the range of inputs probed."""

    def forward(self, scores: Tensor) -> Tensor:
        return torch.softmax(scores, dim=-1)


class ClassTokenBlock(EncoderBlock):  # type: ignore[misc]
    """The last block of a ViT for the class token alone, (N, T, D) -> (N, 1, D): the embedding has no other token.

    The same numbers for five sixths less of this block's work, a fifteenth of ViT-B/16's.
    """

    def __init__(self, block: EncoderBlock) -> None:
        nn.Module.__init__(self)
        self.ln_1, self.ln_2, self.mlp = block.ln_1, block.ln_2, block.mlp
        self.self_attention = FusableAttention(block.self_attention)

    def forward(self, input: Tensor) -> Tensor:
        normed = self.ln_1(input)
        token = input[:, :1] + self.self_attention(normed[:, :1], normed, normed)[0]
        result: Tensor = token + self.mlp(self.ln_2(token))
        return result


class FusableVit(nn.Module):
    """torchvision's VisionTransformer without the shape checks that would be traced into the graph."""

    def __init__(self, vit: VisionTransformer) -> None:
        super().__init__()
        self.vit = vit
        *blocks, last = vit.encoder.layers.named_children()
        for _, block in blocks:
            assert isinstance(block, EncoderBlock)
            block.self_attention = FusableAttention(block.self_attention)
        vit.encoder.layers.set_submodule(last[0], ClassTokenBlock(last[1]))

    def forward(self, planes: Tensor) -> Tensor:
        patches = self.vit.conv_proj(planes).flatten(2).transpose(1, 2)  # (N, 196, D)
        tokens = torch.cat([self.vit.class_token.expand(patches.shape[0], -1, -1), patches], dim=1)
        embedding: Tensor = self.vit.encoder(tokens)[:, 0]
        return embedding


class FusableLayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of (N, C, H, W), with the same weights, in three dimensions.

    OpenVINO computes it in one pass over (N, H * W, C), and in five over (N, H, W, C).
    """

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__(norm.normalized_shape, norm.eps, device="meta")
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, planes: Tensor) -> Tensor:
        batch, channels, height, width = planes.shape
        rows = planes.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        return super().forward(rows).reshape(batch, height, width, channels).permute(0, 3, 1, 2)


def fusable_block(block: CNBlock) -> None:
    """Writes a ConvNeXt block so that it stays in (N, C, H, W): its Linear layers as convolutions of one pixel.

    Same weights; OpenVINO and ONNX Runtime transpose less.
    """
    depthwise, _, norm, expand, activation, project, _ = block.block
    block.block = nn.Sequential(
        depthwise, FusableLayerNorm2d(norm), _pixelwise(expand), activation, _pixelwise(project)
    )


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """Over the same memory."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    linear.weight, linear.bias = (nn.Parameter(tensor, requires_grad=False) for tensor in (weight, bias))
    return linear


def _pixelwise(linear: nn.Linear) -> nn.Conv2d:
    conv = nn.Conv2d(linear.in_features, linear.out_features, 1, device="meta")
    conv.weight = nn.Parameter(linear.weight[:, :, None, None], requires_grad=False)  # a view: the same memory
    conv.bias = linear.bias
    return conv


class GlobalAverage(nn.Module):
    """`AdaptiveAvgPool2d(1)` that exports as one ReduceMean; torch's own becomes six nodes with a dynamic batch."""

    def forward(self, planes: Tensor) -> Tensor:
        return planes.mean((2, 3), keepdim=True)


def _for_export(backbone: nn.Module) -> nn.Module:
    """The backbone as it is traced; weights are shared, the original is left as it was."""
    traced = copy_sharing_weights(backbone)
    for name, module in list(traced.named_modules()):
        if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
            traced.set_submodule(name, GlobalAverage())
        elif isinstance(module, LayerNorm2d):
            traced.set_submodule(name, FusableLayerNorm2d(module))
        elif isinstance(module, CNBlock):
            fusable_block(module)
    return FusableVit(traced) if isinstance(traced, VisionTransformer) else traced
