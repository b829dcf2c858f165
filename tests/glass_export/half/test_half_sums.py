"""Half sums simulated: the products are right, and rounded as often as the hardware rounds them."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from glass_export.graphs import PixelsToEmbedding
from glass_export.half.half_sums import PRODUCTS_AT_ONCE, half_product, summed_in_half
from glass_export.half.precision import measurable, narrowed, prepared
from glass_export.half.probe_views import seeded_views
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.models.vision_transformer import VisionTransformer


def whole_numbers(shape: tuple[int, ...], most: int, seed: int = 0) -> Tensor:
    """Float16 numbers of which float32 holds every sum, so that no order of summing shows."""
    numbers: Any = np.random.default_rng(seed).integers(-most, most + 1, shape)
    return torch.tensor(numbers, dtype=torch.float16)


@pytest.mark.parametrize(
    ("first", "second"),
    [((3, 40), (40, 5)), ((2, 4, 3, 64), (2, 4, 64, 7)), ((6, 48), (2, 48, 5)), ((3, 7), (7, 2))],
)
def test_a_sum_is_rounded_every_sixteen_products(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    left, right = whole_numbers(first, 63), whole_numbers(second, 63, 1)
    exact_left, exact_right = left.double().numpy(), right.double().numpy()
    expected = np.float16(0)
    for start in range(0, first[-1], PRODUCTS_AT_ONCE):
        part = slice(start, start + PRODUCTS_AT_ONCE)
        expected = (expected.astype(float) + exact_left[..., part] @ exact_right[..., part, :]).astype(np.float16)
    found = half_product(left, right)
    assert found.dtype == torch.float16
    np.testing.assert_array_equal(found.numpy(), expected)
    rounded_once = (exact_left @ exact_right).astype(np.float16)
    assert (found.numpy() == rounded_once).all() == (first[-1] <= PRODUCTS_AT_ONCE)


def test_what_computes_in_float32_is_left_to_float32() -> None:
    left, right = torch.rand(3, 40), torch.rand(40, 5)
    assert torch.equal(half_product(left, right), left @ right)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(40, 5), (2, 3, 40)),
        (nn.Linear(40, 5, bias=False), (2, 40)),
        (nn.Conv2d(3, 8, 7, stride=2, padding=3), (2, 3, 20, 31)),
        (nn.Conv2d(20, 6, 3, padding=1, bias=False), (1, 20, 9, 8)),
        (nn.Conv2d(20, 6, 1, stride=2), (1, 20, 9, 8)),
        (nn.Conv2d(4, 6, 3, dilation=2), (1, 4, 9, 12)),
        (nn.Conv2d(8, 8, 3, padding=1, groups=8), (2, 8, 6, 5)),
    ],
    ids=str,
)
def test_every_layer_computes_what_it_computed(layer: Any, shape: tuple[int, ...]) -> None:
    """Of numbers so small that half holds every sum."""
    layer = deepcopy(layer).half()
    with torch.no_grad():
        for index, parameter in enumerate(layer.parameters()):
            parameter.copy_(whole_numbers(tuple(parameter.shape), 2, index))
        values = whole_numbers(shape, 2, 9)
        graph = PixelsToEmbedding(nn.Sequential(layer))
        replaced = summed_in_half(graph).backbone.get_submodule("0")
        assert type(replaced) is not type(layer)
        found, expected = replaced(values), deepcopy(layer).float()(values.float())
    assert found.dtype == torch.float16
    assert torch.equal(found.float(), expected)


def small_vit() -> nn.Module:
    vit: nn.Module = VisionTransformer(
        image_size=224, patch_size=32, num_layers=2, num_heads=4, hidden_dim=256, mlp_dim=512
    )
    vit.heads = nn.Identity()
    return vit


def small_resnet() -> nn.Module:
    resnet: nn.Module = ResNet(BasicBlock, [1, 1, 1, 1])
    resnet.fc = nn.Identity()
    return resnet


@pytest.mark.parametrize("build", [small_vit, small_resnet])
def test_half_sums_cost_more_than_float32_sums(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    graph, views = prepared(build().eval()), seeded_views()[:1]
    narrow = narrowed(graph, torch.float16)
    with torch.no_grad():
        exact = graph(views)
        wide, half = ((made(narrow)(views) - exact).norm() / exact.norm() for made in (measurable, summed_in_half))
    assert wide < half < 10 * wide
