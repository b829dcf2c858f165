"""The backbones of GLASS: a table, one row each."""

from __future__ import annotations

from dataclasses import dataclass

import torchvision
from torch import nn

from glass_rt.errors import UsageError


@dataclass(frozen=True)
class Backbone:
    """A torchvision classifier and the place of its head.

    `builder` is torchvision's name. GLASS removes `glass_head`; the resize-only model puts Dropout and Linear(D, 2)
    at `resize_head`. `crops` and `dropout` are the authors' for GLASS (ours for the two small backbones, which the
    paper does not have).
    """

    name: str
    builder: str
    embedding_dim: int
    glass_head: str
    resize_head: str
    crops: int
    dropout: float

    def build(self, pretrained: bool = False) -> nn.Module:
        """torchvision's model with its ImageNet head; `pretrained` downloads the IMAGENET1K_V1 weights."""
        weights = "IMAGENET1K_V1" if pretrained else None
        model: nn.Module = getattr(torchvision.models, self.builder)(weights=weights)
        return model

    def embedding_only(self, model: nn.Module) -> nn.Module:
        """GLASS's use: the head is gone, the output is (N, D)."""
        model.set_submodule(self.glass_head, nn.Flatten(1))
        return model

    def with_linear_head(self, model: nn.Module) -> nn.Module:
        """The resize-only model's use: Dropout and Linear(D, 2)."""
        head = nn.Sequential(nn.Dropout(self.dropout), nn.Linear(self.embedding_dim, 2))
        model.set_submodule(self.resize_head, head)
        return model


BACKBONES = {
    row.name: row
    for row in (
        Backbone("vit_b16", "vit_b_16", 768, "heads", "heads.head", crops=10, dropout=0.3),
        Backbone("resnet50", "resnet50", 2048, "fc", "fc", crops=6, dropout=0.3),
        # GLASS drops ConvNeXt's whole classifier, its LayerNorm included; the resize-only model keeps that LayerNorm.
        Backbone("convnext_tiny", "convnext_tiny", 768, "classifier", "classifier.2", crops=4, dropout=0.2),
        Backbone("resnet18", "resnet18", 512, "fc", "fc", crops=6, dropout=0.3),
        Backbone("mobilenet_v3_small", "mobilenet_v3_small", 576, "classifier", "classifier", crops=4, dropout=0.2),
    )
}


def find_backbone(name: str) -> Backbone:
    """The row of that name; raises UsageError with the choices."""
    if name not in BACKBONES:
        raise UsageError(f"backbone: got {name!r}; expected one of {', '.join(BACKBONES)}")
    return BACKBONES[name]
