"""Backbones that take milliseconds, and `glass-rt` with them: `python -m tests.glass_train.tiny train ...`."""

from __future__ import annotations

from pathlib import Path

import torchvision
from glass_export.backbones import BACKBONES, TorchvisionBackbone
from torch import Tensor, nn

from tests.bench_zoo import write_picture

DIM = 12


class TinyNorm(nn.Module):
    """Patches, LayerNorm, a linear layer; no dropout, no batch statistics."""

    def __init__(self, **_: object) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 16, stride=16)
        self.norm = nn.LayerNorm(8)
        self.mix = nn.Linear(8, DIM)
        self.heads = nn.Sequential(nn.Linear(DIM, 5))

    def forward(self, planes: Tensor) -> Tensor:
        tokens = self.patches(planes).flatten(2).transpose(1, 2)
        embedding = nn.functional.gelu(self.mix(self.norm(tokens))).mean(dim=1)
        result: Tensor = self.heads(embedding)
        return result


class TinyBatch(nn.Module):
    """Convolution and BatchNorm."""

    def __init__(self, **_: object) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, DIM, 8, stride=8)
        self.norm = nn.BatchNorm2d(DIM)
        self.fc = nn.Linear(DIM, 5)

    def forward(self, planes: Tensor) -> Tensor:
        embedding = nn.functional.relu(self.norm(self.conv(planes))).mean(dim=(2, 3))
        result: Tensor = self.fc(embedding)
        return result


ROWS = (
    TorchvisionBackbone("tiny_norm", DIM, "heads.0", crops=2, dropout=0.0, builder="tiny_norm", glass_head="heads"),
    TorchvisionBackbone("tiny_batch", DIM, "fc", crops=2, dropout=0.2, builder="tiny_batch", glass_head="fc"),
)


def register() -> None:
    """Adds them to the table of backbones."""
    torchvision.models.tiny_norm = TinyNorm
    torchvision.models.tiny_batch = TinyBatch
    for row in ROWS:
        BACKBONES[row.name] = row


def unregister() -> None:
    """Takes them out again."""
    for row in ROWS:
        del BACKBONES[row.name]
        delattr(torchvision.models, row.builder)


def write_parts(folder: Path) -> Path:
    """Writes `train`, `val` and `test`, each with `fake` (reddish) and `real` (bluish) pictures, alike otherwise."""
    for part, count in (("train", 6), ("val", 3), ("test", 6)):
        for number in range(count):
            write_picture(folder / part / "fake" / f"{part}{number}.png", (170 + number, 90, 80))
            write_picture(folder / part / "real" / f"{part}{number}.png", (80, 100, 160 + number))
    return folder


if __name__ == "__main__":
    from glass_rt.__main__ import main

    register()
    main()
