"""Real FP16 builds by TensorRT for RTX, which needs no GPU to build."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from glass_bench.gpu.measured_build import measured_build
from glass_engines.trt.compiler import TrtBuild, compiler_for, plan_from_onnx
from glass_engines.trt.profiles_file import find_profile
from glass_engines.trt.settings import TrtSettings

from glass_rt.backends.trt.library import load_library
from glass_rt.bundle.requirements import Shapes
from glass_rt.errors import BuildError, UsageError

pytestmark = pytest.mark.trt

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'glass-rt[tensorrt-rtx]'")

SHAPES = (Shapes(1, 4, 16), Shapes(1, 64, 64))
TARGETS = ("8.0", "8.6", "8.9", "12.0")
BACKBONES = ("resnet50", "convnext_tiny", "vit_b16")
GRAPHS = [(backbone, role) for backbone in BACKBONES for role in ("global", "local")] + [("resnet50", "resize")]
GraphOf = Callable[[str, str], Path]


def build_for(target: str = "default", **settings: Any) -> TrtBuild:
    library = load_library("tensorrt_rtx")
    chosen = TrtSettings(target=target, **settings)
    return TrtBuild(library, chosen, find_profile("rtx"), library.requirements(target, None), "")


@pytest.mark.parametrize(("backbone", "role"), GRAPHS)
def test_every_graph_builds_for_the_default_target(graph_of: GraphOf, tmp_path: Path, backbone: str, role: str) -> None:
    graph, engine = graph_of(backbone, role), tmp_path / "engine.plan"
    plan_from_onnx(build_for(), graph, engine, SHAPES)
    assert 0.9 < engine.stat().st_size / graph.stat().st_size < 1.6, "half weights, as in the graph, and the kernels"


@pytest.mark.parametrize(("target", "graph"), list(zip(TARGETS, GRAPHS[::2], strict=True)))
def test_graphs_build_for_one_architecture(
    graph_of: GraphOf, tmp_path: Path, target: str, graph: tuple[str, str]
) -> None:
    """One graph per target, each backbone and the resize-only model once; all pairs take a minute more."""
    engine = tmp_path / "engine.plan"
    plan_from_onnx(build_for(target), graph_of(*graph), engine, SHAPES[:1])
    assert engine.stat().st_size > 0.9 * graph_of(*graph).stat().st_size


def test_the_same_build_twice_gives_the_same_bytes_and_another_target_other_ones(
    graph_of: GraphOf, tmp_path: Path
) -> None:
    plans = []
    for index, target in enumerate(("8.9", "8.9", "12.0")):
        plan_from_onnx(build_for(target), graph_of("resnet50", "local"), tmp_path / f"{index}.plan", SHAPES[:1])
        plans.append((tmp_path / f"{index}.plan").read_bytes())
    assert plans[0] == plans[1] != plans[2]


@pytest.fixture(scope="module")
def vit_plan(graph_of: GraphOf, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The kernels of ViT's plan with one profile, as the builder wrote them into it."""
    engine = tmp_path_factory.mktemp("vit") / "vit.plan"
    plan_from_onnx(build_for(), graph_of("vit_b16", "local"), engine, SHAPES[:1])
    return engine.read_bytes().decode("latin-1")


def kernels(plan: str) -> list[tuple[str, set[str]]]:
    """Name of each kernel and the ONNX nodes that it computes."""
    found = re.findall(r"function=\{ name=(\S+) (?:(?!function=\{).)*?layers=\"(.*?)\"", plan, re.DOTALL)
    return [(name, set(re.findall(r"\[ONNX Layer: (\w+)\]", layers))) for name, layers in found]


def test_the_twelve_attention_blocks_of_vit_are_one_kernel_each(vit_plan: str) -> None:
    fused = [nodes for name, nodes in kernels(vit_plan) if "mha" in name]
    assert len(fused) == 12
    for nodes in fused:  # both products and the float32 softmax between them
        assert sum(node.startswith("node_matmul") for node in nodes) == 2
        assert sum(node.startswith("node_softmax") for node in nodes) == 1
    assert len(set[str]().union(*fused)) == sum(map(len, fused)), "each block has a kernel of its own"


def test_the_products_of_vit_are_summed_in_float32(vit_plan: str) -> None:
    """0 leaves it to the card, which may sum in half; 1 is half, 2 float32. The fused kernels of attention tell none."""
    sums = re.findall(r"accumulation_type=(\d)", vit_plan)
    assert len(sums) > 4 * 12, "query, key and value as one, the projection, and the two layers behind, of each block"
    assert set(sums) == {"2"}


def test_the_layer_norms_of_vit_compute_in_float32(vit_plan: str) -> None:
    norms = [(name, nodes) for name, nodes in kernels(vit_plan) if any(n.startswith("node_layer_norm") for n in nodes)]
    assert len({node for _, nodes in norms for node in nodes if node.startswith("node_layer_norm")}) == 25
    for norm in sorted({node for _, nodes in norms for node in nodes if node.startswith("node_layer_norm")}):
        # A kernel's name lists its steps: widened before the mean, not narrowed before the last sum. The last norm of
        # ViT, of which one token is kept, is cut into two kernels.
        steps = "".join(name.removeprefix("__myl_") for name, nodes in norms if norm in nodes)
        assert "CastMeanSubMulMeanAddSqrtDivMulMulAdd" in steps, f"{norm}: {steps}"


def test_the_parsed_network_keeps_norms_and_softmax_in_float32(graph_of: GraphOf) -> None:
    library = load_library("tensorrt_rtx")
    trt = library.trt
    for backbone, norms in (("vit_b16", 25), ("convnext_tiny", 22)):  # 18 in blocks, and 4 of the kind LayerNorm2d
        network = trt.Builder(library.logger).create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, library.logger)
        assert parser.parse_from_file(str(graph_of(backbone, "local")))
        layers = [network.get_layer(index) for index in range(network.num_layers)]
        wide = [layer for layer in layers if layer.type in (trt.LayerType.NORMALIZATION, trt.LayerType.SOFTMAX)]
        assert sum(layer.type == trt.LayerType.NORMALIZATION for layer in wide) == norms
        assert {layer.get_output(0).dtype for layer in wide} == {trt.float32}
        products = [
            layer for layer in layers if layer.type in (trt.LayerType.MATRIX_MULTIPLY, trt.LayerType.CONVOLUTION)
        ]
        assert {layer.get_output(0).dtype for layer in products} == {trt.float16}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_vit_builds_within_memory(graph_of: GraphOf, tmp_path: Path) -> None:
    """Both engines, with less extra memory than twice one's plan and a quarter: see compiler.py."""
    graphs = [graph_of("vit_b16", role) for role in ("global", "local")]
    engines = [tmp_path / "global.plan", tmp_path / "local.plan"]
    cost = measured_build(zip(graphs, engines, strict=True))
    one, both = engines[1].stat().st_size, sum(engine.stat().st_size for engine in engines)
    print(f"{cost.extra_bytes / one:.2f} times one plan, {cost.extra_bytes / both:.2f} times both; {cost.looks} looks")
    assert cost.looks > 100
    assert cost.extra_bytes < 2.4 * one
    assert cost.extra_bytes < 2 * both


def test_a_graph_that_is_none_fails_with_the_vendors_words(tmp_path: Path) -> None:
    graph = tmp_path / "local.onnx"
    graph.write_bytes(b"not a graph")
    with pytest.raises(BuildError, match=r"(?s)tensorrt_rtx cannot read local\.onnx\n  tensorrt_rtx: .+"):
        plan_from_onnx(build_for(), graph, tmp_path / "local.plan", SHAPES)
    assert not (tmp_path / "local.plan").exists()


def test_unknown_targets_are_refused_with_the_choices() -> None:
    with pytest.raises(UsageError, match=r"target: got '9\.9'; this tensorrt_rtx builds for default or .*8\.9"):
        compiler_for("tensorrt_rtx", TrtSettings(target="9.9"))


@pytest.mark.parametrize(
    ("target", "capabilities", "later"),
    [
        ("default", ("8.0", "8.6", "8.9", "12.0", "12.1"), True),
        ("8.9", ("8.9",), False),
        ("sm86,SM_120", ("8.6", "12.0"), False),
    ],
)
def test_targets_become_requirements(target: str, capabilities: tuple[str, ...], later: bool) -> None:
    requirements = load_library("tensorrt_rtx").requirements(target, None)
    assert (requirements.compute_capabilities, requirements.and_later) == (capabilities, later)
