"""FP16 and bf16 decided in the graph: what is narrowed, what stays float32, what is refused."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from glass_export.backbones import find_backbone
from glass_export.graphs import FusableLayerNorm2d, PixelsToEmbedding
from glass_export.half.folding import fold_batch_norms
from glass_export.half.precision import (
    HALF_DTYPES,
    Island,
    Unit,
    lone_parameters,
    measurable,
    narrowed,
    prepared,
    units,
)
from glass_export.half.probe_views import seeded_views
from glass_export.half.range_probe import probe_ranges
from glass_export.model import build_model, checkpoint_module
from glass_export.onnx_file import onnx_from_torch
from glass_export.untrained import fill_untrained
from torch import nn

from glass_rt.errors import ExportError

pytestmark = pytest.mark.slow


@cache
def resize_model(backbone: str, layers: int | None) -> Any:
    """With the seeded rule's weights; ViT cut to its first `layers` blocks, for the time."""
    model: Any = build_model(find_backbone(backbone), "resize")
    if layers is not None:
        model.model.encoder.layers = model.model.encoder.layers[:layers]
    fill_untrained(checkpoint_module(model))
    return model


def embedder_of(backbone: str, layers: int | None = None) -> Any:
    """An embedder of its own, which a test may alter."""
    return deepcopy(resize_model(backbone, layers)).split()[0]


def graph_of(backbone: str) -> PixelsToEmbedding:
    return prepared(embedder_of(backbone, 3 if backbone == "vit_b16" else None))


def drift(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float(((found - expected).norm(dim=1) / expected.norm(dim=1)).max())


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v3_small", "vit_b16"])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 2e-3), ("bf16", 1.6e-2)])
def test_narrowing_costs_what_its_digits_cost(backbone: str, precision: str, tolerance: float) -> None:
    graph, views = graph_of(backbone), seeded_views()[:3]
    with torch.no_grad():
        expected, found = graph(views), measurable(narrowed(graph, HALF_DTYPES[precision]))(views)
    assert found.dtype == torch.float32
    assert tolerance / 100 < drift(found, expected) < tolerance, "narrowed indeed, and within the tolerance"


def test_measuring_with_float32_sums_is_measuring_half() -> None:
    """PyTorch's own half layers on the CPU give the same embeddings, up to the order of sums."""
    narrow, views = narrowed(graph_of("mobilenet_v3_small"), torch.float16), seeded_views()[:2]
    with torch.no_grad():
        assert drift(measurable(narrow)(views), narrow(views)) < 5e-4


def test_batch_norms_are_folded_in_float32() -> None:
    embedder, views = embedder_of("resnet18"), torch.rand(1, 3, 64, 64)
    folded = fold_batch_norms(embedder)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in embedder.modules()), "the original is left as it was"
    with torch.no_grad():
        torch.testing.assert_close(folded(views), embedder(views), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("backbone", "norms", "norms_2d"),
    [
        ("convnext_tiny", 23, 23),  # one per block, four between stages and the classifier's
        ("vit_b16", 7, 0),  # two per block and the last
    ],
)
def test_every_normalisation_is_an_island_whatever_its_class_is_called(
    backbone: str, norms: int, norms_2d: int
) -> None:
    result = narrowed(graph_of(backbone), torch.float16)
    layers = [module.layer for module in result.modules() if isinstance(module, Island)]
    found = [layer for layer in layers if isinstance(layer, nn.LayerNorm)]
    assert len(found) == norms == sum(isinstance(module, nn.LayerNorm) for module in result.modules())
    assert sum(isinstance(layer, FusableLayerNorm2d) for layer in found) == norms_2d
    assert {parameter.dtype for layer in found for parameter in layer.parameters()} == {torch.float32}


@pytest.mark.parametrize("backbone", ["resnet18", "convnext_tiny", "vit_b16"])
def test_units_cover_every_weight_once(backbone: str) -> None:
    inner = graph_of(backbone).backbone
    placed = list(units(inner))
    owned = sum(parameter.numel() for _, module in placed for parameter in module.parameters())
    lone = sum(parameter.numel() for _, parameter in lone_parameters(inner, placed))
    assert owned + lone == sum(parameter.numel() for parameter in inner.parameters())


@pytest.mark.parametrize("backbone", ["resnet18", "vit_b16"])
def test_ordinary_weights_widen_nothing(backbone: str) -> None:
    report = probe_ranges(graph_of(backbone), seeded_views()[:3], "fp16", "seeded views")
    assert (report.widened, report.widened_streams) == ((), ())
    assert 1 < report.largest_activation < report.limit == 65504 / 4


def test_a_bias_that_would_overflow_widens_its_block_and_saves_the_embeddings() -> None:
    """A bias of 1e5 is infinite in half; the block that holds it computes in float32, the others do not."""
    embedder, views = embedder_of("vit_b16", 3), seeded_views()[:2]
    with torch.no_grad():
        embedder.encoder.layers[1].mlp[3].bias[7] = 1e5
    graph = prepared(embedder)
    report = probe_ranges(graph, views, "fp16", "seeded views")
    assert report.widened == ("vit.encoder.layers.encoder_layer_1",)
    assert report.largest_weight == 1e5
    assert report.largest_weight_at.endswith("mlp.3.bias")
    assert report.widened_streams == ("vit.encoder.layers.encoder_layer_2",), "the value goes on past the next block"
    with torch.no_grad():
        expected = graph(views)
        assert not torch.isfinite(narrowed(graph, torch.float16)(views)).all()
        saved = measurable(narrowed(graph, torch.float16, report.widened, report.widened_streams))(views)
    assert drift(saved, expected) < 2e-3
    kinds = {unit.dtype for unit in narrowed(graph, torch.float16, report.widened).modules() if isinstance(unit, Unit)}
    assert kinds == {torch.float16, torch.float32}


def test_values_that_only_images_bring_about_widen_too() -> None:
    """No weight is out of range; what it makes of an image is."""
    embedder, views = embedder_of("resnet18"), seeded_views()[:2]
    with torch.no_grad():
        embedder.layer4[1].bn2.weight *= 10000
    graph = prepared(embedder)
    report = probe_ranges(graph, views, "fp16", "seeded views")
    assert report.largest_weight < report.limit < report.largest_activation
    assert report.widened == ("layer4.1",)
    with torch.no_grad():
        saved = measurable(narrowed(graph, torch.float16, report.widened))(views)
        assert drift(saved, graph(views)) < 2e-3


def test_weights_that_half_would_lose_widen_their_unit() -> None:
    embedder = embedder_of("resnet18")
    with torch.no_grad():
        embedder.layer3[1].conv1.weight *= 1e-6
        embedder.layer3[1].bn1.weight *= 1e-2
    report = probe_ranges(prepared(embedder), seeded_views()[:1], "fp16", "seeded views")
    assert report.widened == ("layer3.1",)


def test_a_model_that_is_out_of_range_all_over_is_refused() -> None:
    embedder = embedder_of("resnet18")
    with torch.no_grad():
        embedder.conv1.weight *= 1e6
        for module in embedder.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.mul_(50)
    with pytest.raises(ExportError, match=r"units hold values that fp16 cannot.*fp32, or in bf16"):
        probe_ranges(prepared(embedder), seeded_views()[:1], "fp16", "seeded views")


def test_bf16_has_the_range_that_half_lacks() -> None:
    embedder = embedder_of("vit_b16", 2)
    with torch.no_grad():
        embedder.encoder.layers[1].mlp[3].bias[7] = 1e5
    report = probe_ranges(prepared(embedder), seeded_views()[:1], "bf16", "seeded views")
    assert (report.widened, report.widened_streams) == ((), ())


def test_the_graph_spells_its_types(tmp_path: Path) -> None:
    """Weights of products are half, those of norms float32, and the ends are what the runtime knows."""
    path = tmp_path / "vit.onnx"
    example = torch.zeros((2, 224, 224, 3), dtype=torch.uint8)
    graph = narrowed(graph_of("vit_b16"), torch.float16)
    onnx_from_torch(graph, path, {"pixels": example}, ("embedding",), {"pixels": {0: "N"}}, {})
    model = onnx.load(path)
    types = {item.name: item.data_type for item in model.graph.initializer}
    matrices = [node.input[1] for node in model.graph.node if node.op_type in ("MatMul", "Gemm", "Conv")]
    assert {types[name] for name in matrices if name in types} == {onnx.TensorProto.FLOAT16}
    norms = [node.input[1] for node in model.graph.node if node.op_type == "LayerNormalization"]
    assert len(norms) == 7
    assert {types[name] for name in norms} == {onnx.TensorProto.FLOAT}
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert model.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_seeded_views_are_harsh() -> None:
    views = seeded_views().numpy()
    assert views.shape == (8, 224, 224, 3)
    assert views.min() == 0
    assert views.max() == 255
    assert np.abs(np.diff(views[-1, :, 0, 0])).min() == 255
