"""The backbones of GLASS: a table of torchvision's, one row each, and timm's by their own names."""

from __future__ import annotations

from dataclasses import dataclass

import torchvision
from torch import nn

from glass_export.backbone import Backbone
from glass_export.timm_backbone import PREFIX, timm_backbone
from glass_rt.errors import UsageError


@dataclass(frozen=True)
class TorchvisionBackbone(Backbone):
    """A torchvision classifier and the place of its head.

    `builder` is torchvision's name. GLASS removes `glass_head`. `crops` and `dropout` are the authors' (ours for the
    two small backbones, which the paper does not have).
    """

    library = "torchvision"
    proven = True
    weights_cache = "~/.cache/torch/hub/checkpoints"

    builder: str
    glass_head: str

    def build(self, pretrained: bool = False) -> nn.Module:
        """torchvision's model with its ImageNet head; `pretrained` downloads the IMAGENET1K_V1 weights."""
        weights = "IMAGENET1K_V1" if pretrained else None
        model: nn.Module = getattr(torchvision.models, self.builder)(weights=weights)
        return model

    def embedding_only(self, model: nn.Module) -> nn.Module:
        """The head is gone, the output is (N, D)."""
        model.set_submodule(self.glass_head, nn.Flatten(1))
        return model

    def with_linear_head(self, model: nn.Module) -> nn.Module:
        """The head is Dropout and Linear(D, 2)."""
        model.set_submodule(self.resize_head, self._linear_head())
        return model


_ROWS = (
    TorchvisionBackbone("vit_b16", 768, "heads.head", crops=10, dropout=0.3, builder="vit_b_16", glass_head="heads"),
    TorchvisionBackbone("resnet50", 2048, "fc", crops=6, dropout=0.3, builder="resnet50", glass_head="fc"),
    # GLASS drops ConvNeXt's whole classifier, its LayerNorm included; the resize-only model keeps that LayerNorm.
    TorchvisionBackbone(
        "convnext_tiny", 768, "classifier.2", crops=4, dropout=0.2, builder="convnext_tiny", glass_head="classifier"
    ),
    TorchvisionBackbone("resnet18", 512, "fc", crops=6, dropout=0.3, builder="resnet18", glass_head="fc"),
    TorchvisionBackbone(
        "mobilenet_v3_small",
        576,
        "classifier",
        crops=4,
        dropout=0.2,
        builder="mobilenet_v3_small",
        glass_head="classifier",
    ),
)
BACKBONES: dict[str, Backbone] = {row.name: row for row in _ROWS}


def find_backbone(name: str) -> Backbone:
    """The backbone of that name: a row of the table, or `timm:NAME`.

    Raises UsageError with the choices, or the reason why a model of timm cannot be one; MissingDependency without timm.
    """
    if name.startswith(PREFIX):
        return timm_backbone(name.removeprefix(PREFIX))
    if name not in BACKBONES:
        raise UsageError(f"backbone: got {name!r}; expected one of {', '.join(BACKBONES)}, or {PREFIX}NAME")
    return BACKBONES[name]
