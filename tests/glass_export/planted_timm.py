"""Models in timm's registry that GLASS cannot use, or not build: one kind each."""

from __future__ import annotations

import torch
from timm.models import register_model
from torch import Tensor, nn


class _Plain(nn.Module):
    """Patches of 32 x 32 pixels, averaged to 8 numbers; the others do one thing differently."""

    def __init__(self) -> None:
        super().__init__()
        self.num_features = 8
        self.patches = nn.Conv2d(3, 8, 32, stride=32)

    def forward(self, planes: Tensor) -> Tensor:
        result: Tensor = self.patches(planes).mean((2, 3))
        return result


class _Map(_Plain):
    def forward(self, planes: Tensor) -> Tensor:
        result: Tensor = self.patches(planes)
        return result


class _Pyramid(_Plain):
    def forward(self, planes: Tensor) -> Tensor:
        return [super().forward(planes)] * 2  # type: ignore[return-value]


class _Branching(_Plain):
    def forward(self, planes: Tensor) -> Tensor:
        features = super().forward(planes)
        return features if planes.mean() > 0 else -features


class _Untranslatable(_Plain):
    """ONNX has no eigenvalues."""

    def forward(self, planes: Tensor) -> Tensor:
        features = super().forward(planes)
        square = features[:, :, None] * features[:, None, :]
        return features + torch.linalg.eigvalsh(square)


class _Random(_Plain):
    """Not what it was when it was traced."""

    def forward(self, planes: Tensor) -> Tensor:
        features = super().forward(planes)
        return features + torch.rand_like(features)


class _Tied(_Plain):
    """One tensor under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.again = self.patches


def planted_map(pretrained: bool = False, **_: object) -> nn.Module:
    return _Map()


def planted_pyramid(pretrained: bool = False, **_: object) -> nn.Module:
    return _Pyramid()


def planted_branching(pretrained: bool = False, **_: object) -> nn.Module:
    return _Branching()


def planted_untranslatable(pretrained: bool = False, **_: object) -> nn.Module:
    return _Untranslatable()


def planted_random(pretrained: bool = False, **_: object) -> nn.Module:
    return _Random()


def planted_tied(pretrained: bool = False, **_: object) -> nn.Module:
    return _Tied()


for entry in (
    planted_map,
    planted_pyramid,
    planted_branching,
    planted_untranslatable,
    planted_random,
    planted_tied,
):
    register_model(entry)
