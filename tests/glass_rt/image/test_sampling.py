"""Boxes are the authors' boxes, on every machine, without PyTorch."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from glass_rt.errors import UsageError
from glass_rt.image.sampling import Box, default_seed, stratified, tiles
from tests.support import GOLDEN

CASES: list[dict[str, Any]] = json.loads((GOLDEN / "crop_boxes.json").read_text())


def test_there_are_81_golden_cases() -> None:
    assert len(CASES) == 81


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['height']}x{c['width']}-{c['num_crops']}-{c['seed']}")
def test_boxes_equal_the_golden_ones(case: dict[str, Any]) -> None:
    sampling = stratified(case["height"], case["width"], case["num_crops"], case["seed"], case["crop_size"])
    assert sampling.grid == case["grid"]
    assert [[b.top, b.left, b.height, b.width] for b in sampling.boxes] == case["boxes"]
    assert sampling.stratified == (case["grid"] > 0)


def test_boxes_follow_torch_for_random_sizes_and_seeds() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        height, width, seed = (int(v) for v in random.integers([1, 1, 0], [5000, 5000, 2**63]))
        crops = int(random.integers(1, 20))
        boxes = stratified(height, width, crops, seed, 224).boxes
        assert [(b.top, b.left) for b in boxes] == _corners_by_torch(height, width, crops, seed)


def _corners_by_torch(height: int, width: int, crops: int, seed: int, size: int = 224) -> list[tuple[int, int]]:
    """GLASS.md's rule, written down with PyTorch's own generator."""
    generator = torch.Generator().manual_seed(seed)

    def draw(most: int) -> int:
        return int(torch.randint(0, most + 1, (1,), generator=generator))

    grid = min(min(height, width) // size, 8)
    if grid * grid < crops:
        return [(draw(max(0, height - size)), draw(max(0, width - size))) for _ in range(crops)]
    cells = torch.randperm(grid * grid, generator=generator)[:crops].tolist()
    corners = []
    for cell in cells:
        top = cell // grid * (height // grid) + draw(max(0, height // grid - size))
        left = cell % grid * (width // grid) + draw(max(0, width // grid - size))
        corners.append((min(top, max(0, height - size)), min(left, max(0, width - size))))
    return corners


def test_only_the_low_32_bits_of_a_seed_count() -> None:
    assert stratified(3000, 4000, 10, 606, 224).boxes == stratified(3000, 4000, 10, 606 + (5 << 32), 224).boxes


def test_a_file_has_one_default_seed() -> None:
    assert default_seed("0000025e" + "ff" * 28) == 606


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (448, 448, 4),
        (450, 448, 6),  # two more pixels need a third row, moved back inside
        (1, 1, 1),
        (223, 5000, 23),
    ],
)
def test_tiles_cover_every_pixel(height: int, width: int, expected: int) -> None:
    sampling = tiles(height, width, 224)
    covered = np.zeros((height, width), bool)
    for box in sampling.boxes:
        assert box.top + box.height <= height
        assert box.left + box.width <= width
        covered[box.top : box.top + box.height, box.left : box.left + box.width] = True
    assert covered.all()
    assert len(sampling.boxes) == expected
    assert sampling.seed is None


def test_a_small_image_gives_boxes_smaller_than_a_crop() -> None:
    assert set(stratified(17, 300, 3, 1, 224).boxes) <= {Box(0, left, 17, 224) for left in range(77)}


@pytest.mark.parametrize(("crops", "seed"), [(0, 1), (3, -1), (3, 2**64)])
def test_impossible_arguments_are_refused(crops: int, seed: int) -> None:
    with pytest.raises(UsageError):
        stratified(1000, 1000, crops, seed, 224)
