"""What a backbone of GLASS is, whichever library defines it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

Channels = tuple[float, float, float]  # red, green, blue


@dataclass(frozen=True)
class Scaling:
    """The mean and the standard deviation that a backbone's inputs are normalised by, of values in 0..1."""

    mean: Channels
    std: Channels


IMAGENET_SCALING = Scaling((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Backbone(ABC):
    """A network that turns views of 224 x 224 into embeddings of `embedding_dim` numbers, by the name in commands.

    The resize-only model has Dropout and Linear(D, 2) at `resize_head`. `crops` and `dropout` are the values that GLASS
    is trained with. `library` is the package that defines the network, `weights_cache` the folder for its downloads.
    `proven`: this project's tests have taken the network through export and engines.
    """

    library: ClassVar[str]
    proven: ClassVar[bool]
    weights_cache: ClassVar[str]

    name: str
    embedding_dim: int
    resize_head: str
    crops: int
    dropout: float

    @property
    def scaling(self) -> Scaling:
        """How the network's inputs are normalised."""
        return IMAGENET_SCALING

    @abstractmethod
    def build(self, pretrained: bool = False) -> nn.Module:
        """The library's model with random weights; `pretrained` downloads those of ImageNet.

        Raises OSError without a network, and CheckpointError where the library has no such weights.
        """

    @abstractmethod
    def embedding_only(self, model: nn.Module) -> nn.Module:
        """GLASS's use: no head is left, planes (N, 3, 224, 224) become embeddings (N, D)."""

    @abstractmethod
    def with_linear_head(self, model: nn.Module) -> nn.Module:
        """The resize-only model's use: the head is Dropout and Linear(D, 2)."""

    def _linear_head(self) -> nn.Sequential:
        return nn.Sequential(nn.Dropout(self.dropout), nn.Linear(self.embedding_dim, 2))
