"""INT8 by TensorRT for RTX: what its plans hold, for small models of every kind, and bundles as `build` writes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from glass_bench.gpu.plan_text import attention_kernels, nodes_in_int8, norms_in_float32, plan_steps
from glass_engines.build import BuildOptions, build_bundle
from glass_engines.int8.int8_products import int8_products
from glass_engines.registry import find_compiler
from glass_engines.trt.settings import TrtSettings
from glass_export.half.precision import narrowed, prepared
from glass_export.onnx_file import onnx_from_torch
from torch import nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.vision_transformer import VisionTransformer

from glass_rt.bundle.bundle import Bundle, PortableModel
from glass_rt.errors import GlassError, ParityError, UsageError
from glass_rt.inference.parity import TOLERANCES, Tolerance
from tests.command_line import Done
from tests.support import Cli, Portables

pytestmark = pytest.mark.trt

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'glass-rt[tensorrt-rtx]'")
pytest.importorskip("nncf", reason="NNCF is not installed: pip install 'glass-rt[int8]'")


def small_vit() -> nn.Module:
    vit: nn.Module = VisionTransformer(
        image_size=224, patch_size=32, num_layers=2, num_heads=2, hidden_dim=128, mlp_dim=256
    )
    vit.heads = nn.Identity()
    return vit


def small_convnext() -> nn.Module:
    convnext: nn.Module = ConvNeXt([CNBlockConfig(32, 64, 1), CNBlockConfig(64, None, 1)])
    convnext.classifier = nn.Flatten(1)
    return convnext


# Model, its INT8 products, kernels of attention, LayerNorms. Products are all with weights but the first, which reads
# the pixels, and depthwise ones. The next kind is a row; the backbones themselves: benchmarks/rtx_builds.py.
PLANS: list[tuple[Callable[[], nn.Module], int, int, int]] = [
    (small_vit, 2 * 6, 2, 5),
    (small_convnext, 2 * 2 + 1, 0, 4),
]


@pytest.mark.parametrize(
    ("build", "products", "attentions", "norms"), PLANS, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_plan_multiplies_int8_and_keeps_attention_fused_and_norms_in_float32(
    tmp_path: Path, build: Callable[[], nn.Module], products: int, attentions: int, norms: int
) -> None:
    torch.manual_seed(0)
    half, narrow, engine = (tmp_path / name for name in ("local.fp16.onnx", "local.int8.onnx", "local.plan"))
    example = torch.zeros((2, 224, 224, 3), dtype=torch.uint8)
    module = narrowed(prepared(build().eval()), torch.float16)
    onnx_from_torch(module, half, {"pixels": example}, ("embedding",), {"pixels": {0: "N"}}, {})
    views = np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3), dtype=np.uint8)
    compiler = find_compiler("tensorrt_rtx", "int8", TrtSettings(profile="rtx"))
    compiler.quantise(half, views, narrow)
    compiler.compile(narrow, engine)
    wanted, steps = int8_products(onnx.load(half).graph), plan_steps(engine)
    assert len(wanted) == products
    assert nodes_in_int8(steps, wanted) == set(wanted)
    assert len({kernel.nodes for kernel in attention_kernels(steps)}) == attentions
    assert list(norms_in_float32(steps).values()) == [True] * norms


@pytest.fixture(scope="module")
def portable(portables: Portables) -> PortableModel:
    """The resize-only MobileNetV3-Small, which has one engine and sees one view of an image."""
    return portables("mobilenet_v3_small", "resize", precisions=("fp32", "fp16"))


def options(images: Path, tolerance: float = 0.3) -> BuildOptions:
    return BuildOptions("tensorrt_rtx", "int8", calibration=images, tolerance=tolerance)


@pytest.fixture(scope="module")
def done(
    cli: Cli, portable: PortableModel, pictures: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory
) -> Done:
    """The command that built a bundle; its standard output is the manifest."""
    folder = tmp_path_factory.mktemp("int8") / "bundle"
    return cli(
        "build", "--from", portable.folder, "--backend", "tensorrt_rtx", "--precision", "int8", "--quiet", "--json",
        "--calibration", pictures[0].parent, "--tolerance", "0.3", "--output", folder,
    )  # fmt: skip


@pytest.fixture(scope="module")
def bundle(done: Done) -> Bundle:
    assert done.returncode == 0, done.stderr
    return Bundle.open(done.args[done.args.index("--output") + 1])


def test_results_alone_stand_on_standard_output(done: Done, bundle: Bundle) -> None:
    """NNCF would draw its progress there."""
    assert json.loads(done.stdout)["bundle_sha256"] == bundle.sha256


def test_a_bundle_says_what_int8_cost_on_images_kept_out(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert (manifest.engine.backend, manifest.engine.precision, manifest.engine.device) == (
        "tensorrt_rtx",
        "int8",
        "cuda",
    )
    assert manifest.parity.status == "pending"
    assert manifest.precision_report is not None
    assert manifest.precision_report.computed_by.startswith(
        "ONNX Runtime with the graphs of these engines, on 2 images"
    )
    assert 1e-3 < manifest.precision_report.embedding < 0.3
    assert set(PortableModel.open(bundle.folder).manifest.graphs) == {"fp32", "fp16"}, "it can be built again from them"


def test_every_product_of_a_real_backbone_is_int8_but_depthwise_ones_and_the_first(
    bundle: Bundle, portable: PortableModel
) -> None:
    graph = onnx.load(portable.graph("fp16", "global"))
    wanted = int8_products(graph.graph)
    assert len(wanted) == 10 + 11 + 1, "expansions, projections, and the last convolution"
    assert nodes_in_int8(plan_steps(bundle.folder / "global.plan"), wanted) == set(wanted)


@pytest.mark.parametrize(
    ("tolerance", "gate", "error", "message"),
    [
        (1e-4, None, ParityError, "INT8 changes too much on images kept out"),
        (0.3, Tolerance(1e-6, 1e-6), ParityError, "global engine, batch 1: embeddings differ from PyTorch's"),
    ],
)
def test_what_int8_changes_too_much_is_not_written(
    portable: PortableModel, pictures: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    tolerance: float, gate: Tolerance | None, error: type[GlassError], message: str,
) -> None:  # fmt: skip
    if gate is not None:  # as if the graph broke on the reference views, which its first opening on a GPU would find
        monkeypatch.setitem(TOLERANCES, "int8", gate)
    with pytest.raises(error, match=message):
        build_bundle(portable, tmp_path / "bundle", options(pictures[0].parent, tolerance))
    assert list(tmp_path.iterdir()) == []


def test_a_portable_model_in_half_alone_says_what_else_is_needed(
    small_model: PortableModel, pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"graphs in fp16; .* --precision fp32 --precision fp16"):
        build_bundle(small_model, tmp_path / "bundle", options(pictures[0].parent))
