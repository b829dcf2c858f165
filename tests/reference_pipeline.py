"""The plain PyTorch pipeline of the authors, written out: what the whole runtime is compared with.

Pillow decodes, the image becomes a float tensor, the antialiased resize gives the global view, crops come from
`torch.Generator().manual_seed(seed)`, the model runs eagerly. Nothing here is shared with glass_rt.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from glass_export.model import Glass, ResizeOnly
from torch import Tensor
from torchvision.transforms.functional import normalize, resize

SIZE = 224
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@dataclass(frozen=True)
class Judged:
    """Corners are (top, left)."""

    probabilities: list[float]
    attention: list[float]
    corners: list[tuple[int, int]]


def judge_glass(model: Glass, path: Path, num_crops: int, seed: int) -> Judged:
    image = _float_image(path)
    view = normalize(resize(image, [SIZE, SIZE], antialias=True), MEAN, STD)
    corners = _corners(image.shape[1], image.shape[2], num_crops, torch.Generator().manual_seed(seed))
    crops = torch.stack([normalize(_crop(image, top, left), MEAN, STD) for top, left in corners])
    with torch.no_grad():
        logits, attention = model(view[None], crops[None])
    return Judged(torch.softmax(logits[0], dim=0).tolist(), attention[0].tolist(), corners)


def judge_resize(model: ResizeOnly, path: Path) -> list[float]:
    with PIL.Image.open(path) as file:
        small = file.convert("RGB").resize((SIZE, SIZE), PIL.Image.Resampling.BILINEAR)
    view = torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1).float() / 255
    with torch.no_grad():
        return torch.softmax(model(normalize(view, MEAN, STD)[None])[0], dim=0).tolist()


def _float_image(path: Path) -> Tensor:
    with PIL.Image.open(path) as file:
        pixels = np.asarray(file.convert("RGB"))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255


def _crop(image: Tensor, top: int, left: int) -> Tensor:
    crop = image[:, top : top + SIZE, left : left + SIZE]
    return torch.nn.functional.pad(crop, (0, SIZE - crop.shape[2], 0, SIZE - crop.shape[1]))


def _corners(height: int, width: int, num_crops: int, generator: torch.Generator) -> list[tuple[int, int]]:
    def draw(most: int) -> int:
        return int(torch.randint(0, most + 1, (1,), generator=generator))

    last_top, last_left = max(0, height - SIZE), max(0, width - SIZE)
    grid = min(min(height, width) // SIZE, 8)
    if grid * grid < num_crops:
        return [(draw(last_top), draw(last_left)) for _ in range(num_crops)]
    corners = []
    for cell in torch.randperm(grid * grid, generator=generator)[:num_crops].tolist():
        top = cell // grid * (height // grid) + draw(max(0, height // grid - SIZE))
        left = cell % grid * (width // grid) + draw(max(0, width // grid - SIZE))
        corners.append((min(top, last_top), min(left, last_left)))
    return corners
