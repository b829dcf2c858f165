"""What is traced: pixels in, embeddings out. Scaling, normalisation and layout are part of the graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.convnext import CNBlock, LayerNorm2d
from torchvision.models.vision_transformer import EncoderBlock, VisionTransformer

from glass_export.model import IMAGENET_MEAN, IMAGENET_STD, Glass, copy_sharing_weights


class PixelsToEmbedding(nn.Module):
    """(N, S, S, 3) uint8 or float32 in 0..255, RGB -> (N, D) float32."""

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = _for_export(backbone)
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("inverse_std", 1 / (255 * torch.tensor(IMAGENET_STD)).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        # Cast first: TensorRT's parser refuses to transpose uint8.
        planes = pixels.to(torch.float32).permute(0, 3, 1, 2)
        embedding: Tensor = self.backbone((planes - self.mean) * self.inverse_std)
        return embedding


class FusedGlass(nn.Module):
    """All of GLASS: `global_view` (B, S, S, 3) float32, `crops` (B, K, S, S, 3) uint8 -> probabilities, attention."""

    def __init__(self, model: Glass) -> None:
        super().__init__()
        self.global_model = PixelsToEmbedding(model.global_model)
        self.local_model = PixelsToEmbedding(model.local_model)
        self.head = model

    def forward(self, global_view: Tensor, crops: Tensor) -> tuple[Tensor, Tensor]:
        size = crops.shape[-2]
        local = self.local_model(crops.reshape(-1, size, size, 3))
        local = local.reshape(crops.shape[0], crops.shape[1], -1)
        logits, attention = self.head.pool(self.global_model(global_view), local)
        return torch.softmax(logits, dim=1), attention


class FusableAttention(nn.Module):
    """torchvision's self-attention with the same weights, written so that it exports as nodes that builders fuse.

    `nn.MultiheadAttention` exports as 578 nodes for ViT-B/16, this as 314. Equal within 3e-6.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        dim = attention.embed_dim
        self.in_proj = nn.Linear(dim, 3 * dim, device="meta")
        self.in_proj.weight, self.in_proj.bias = attention.in_proj_weight, attention.in_proj_bias
        self.attention_weights = AttentionWeights()
        self.out_proj = attention.out_proj
        self.heads = attention.num_heads
        self.scales_query = False

    def forward(self, tokens: Tensor, _key: Tensor, _value: Tensor, need_weights: bool = False) -> tuple[Tensor, None]:
        batch, length, dim = tokens.shape
        joined = self.in_proj(tokens)
        split = joined.reshape(batch, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = split[0], split[1], split[2]  # (N, heads, T, D / heads)
        scale = (dim // self.heads) ** -0.5
        # In half before the product, where TensorRT wants it and where it cannot overflow; 1/8 here, so it is exact.
        # In float32 after it: ONNX Runtime 1.31 computes nonsense from the other form once it has optimised it twice.
        scores = (query * scale) @ key.transpose(-2, -1) if self.scales_query else query @ key.transpose(-2, -1) * scale
        mixed = self.attention_weights(scores) @ value
        return self.out_proj(mixed.transpose(1, 2).reshape(batch, length, dim)), None


class AttentionWeights(nn.Module):
    """Softmax over the last axis; a module of its own so that its precision and its inputs' range can be seen to."""

    def forward(self, scores: Tensor) -> Tensor:
        return torch.softmax(scores, dim=-1)


class FusableVit(nn.Module):
    """torchvision's VisionTransformer without the shape checks that would be traced into the graph."""

    def __init__(self, vit: VisionTransformer) -> None:
        super().__init__()
        self.vit = vit
        for block in vit.encoder.layers:
            assert isinstance(block, EncoderBlock)
            block.self_attention = FusableAttention(block.self_attention)

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
