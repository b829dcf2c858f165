"""The models as the authors define them, for loading their checkpoints and for the reference values."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from glass_export.backbone import IMAGENET_SCALING, Backbone, Scaling

CROP_SIZE = 224
ATTENTION_HIDDEN = 128


class Glass(nn.Module):
    """GLASS: two backbones with separate weights, attention over the crops, a classifier on both embeddings.

    Parameter names are those of the authors' checkpoints. Source: arXiv 2601.00141, section 3.
    """

    def __init__(self, backbone: Backbone, global_model: nn.Module, local_model: nn.Module) -> None:
        super().__init__()
        dim, dropout = backbone.embedding_dim, backbone.dropout
        self.scaling = backbone.scaling
        self.global_model = backbone.embedding_only(global_model)
        self.local_model = backbone.embedding_only(local_model)
        self.attention = nn.Sequential(
            nn.Linear(dim, ATTENTION_HIDDEN), nn.Tanh(), nn.Dropout(dropout), nn.Linear(ATTENTION_HIDDEN, 1)
        )
        self.classifier = nn.Sequential(nn.LayerNorm(2 * dim), nn.Dropout(dropout), nn.Linear(2 * dim, 2))

    def forward(self, global_view: Tensor, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised views (B, 3, S, S) and (B, K, 3, S, S) -> logits (B, 2), attention (B, K)."""
        local = self.local_model(crops.flatten(0, 1))
        local = local.reshape(crops.shape[0], crops.shape[1], local.shape[-1])
        return self.pool(self.global_model(global_view), local)

    def pool(self, global_embedding: Tensor, local_embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (B, D) and (B, K, D) -> logits (B, 2), attention (B, K)."""
        attention = torch.softmax(self.attention(local_embeddings).squeeze(-1), dim=1)
        pooled = (attention.unsqueeze(-1) * local_embeddings).sum(dim=1)
        logits: Tensor = self.classifier(torch.cat([global_embedding, pooled], dim=1))
        return logits, attention


class ResizeOnly(nn.Module):
    """The paper's baseline: one backbone on the resized image; its parameter names are the backbone's own."""

    def __init__(self, backbone: Backbone, model: nn.Module) -> None:
        super().__init__()
        self.scaling = backbone.scaling
        self.model = backbone.with_linear_head(model)
        self._head = backbone.resize_head

    def forward(self, view: Tensor) -> Tensor:
        """Normalised views (B, 3, S, S) -> logits (B, 2)."""
        logits: Tensor = self.model(view)
        return logits

    def split(self) -> tuple[nn.Module, nn.Linear]:
        """Embedding and Linear apart, sharing the weights with this model."""
        embedder = copy_sharing_weights(self.model)
        linear = embedder.get_submodule(f"{self._head}.1")
        assert isinstance(linear, nn.Linear)
        embedder.set_submodule(self._head, nn.Identity())
        return embedder, linear


def copy_sharing_weights(module: nn.Module) -> nn.Module:
    """A copy whose structure can be changed without touching the original, on the same tensors."""
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})


def build_model(backbone: Backbone, architecture: str, pretrained: bool = False) -> Glass | ResizeOnly:
    """The model of one architecture with its library's start values, in inference mode."""
    if architecture == "glass":
        glass = Glass(backbone, backbone.build(pretrained), backbone.build(pretrained))
        return glass.eval()
    return ResizeOnly(backbone, backbone.build(pretrained)).eval()


def checkpoint_module(model: Glass | ResizeOnly) -> nn.Module:
    """The module whose `state_dict` has the names of a checkpoint."""
    return model.model if isinstance(model, ResizeOnly) else model


def normalise(pixels: Tensor, scaling: Scaling = IMAGENET_SCALING) -> Tensor:
    """(..., S, S, 3) in 0..255 -> (..., 3, S, S), scaled to 0..1 and normalised by a model's scaling."""
    mean = torch.tensor(scaling.mean, dtype=torch.float32, device=pixels.device)
    std = torch.tensor(scaling.std, dtype=torch.float32, device=pixels.device)
    return ((pixels.to(torch.float32) / 255 - mean) / std).movedim(-1, -3)
