"""ONNX files taken apart: nothing is lost, weights are aligned, and the plan stays the same."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from glass_engines.trt.compiler import TrtBuild, plan_from_onnx
from glass_engines.trt.onnx_weights import weights_apart
from glass_engines.trt.profiles_file import find_profile
from glass_engines.trt.settings import TrtSettings
from glass_engines.trt.stream import stream_writer

from glass_rt.backends.trt.library import load_library
from glass_rt.bundle.bundle import PortableModel
from glass_rt.bundle.requirements import Shapes

pytestmark = pytest.mark.trt

GraphOf = Callable[[str, str], Path]


def test_graph_and_weights_together_are_the_model(small_model: PortableModel, tmp_path: Path) -> None:
    path = small_model.graph("fp16", "local")
    apart = weights_apart(path, tmp_path)
    assert apart is not None
    assert list(tmp_path.iterdir()) == [], "the file of weights has no name, and goes with the process"
    model = onnx.load_from_string(apart.graph)
    for tensor in model.graph.initializer:
        if tensor.name in apart.weights:
            assert not tensor.raw_data
            address, size = apart.weights[tensor.name]
            assert address % 64 == 0
            tensor.raw_data = ctypes.string_at(address, size)
    assert model == onnx.load(path)
    assert sum(size for _, size in apart.weights.values()) > 0.75 * path.stat().st_size


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x0a\xff\xff\xff\x7f", b"\x08"])
def test_what_is_no_model_is_left_to_the_parser(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "local.onnx"
    path.write_bytes(content)
    assert weights_apart(path, tmp_path) is None


def test_the_plan_is_the_same_as_of_the_whole_file(
    graph_of: GraphOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    library = load_library("tensorrt_rtx")
    build = TrtBuild(library, TrtSettings(), find_profile("rtx"), library.requirements("default", None), "")
    graph = graph_of("resnet50", "local")  # of MobileNetV3 no two builds are alike: kernels are numbered anew
    plan_from_onnx(build, graph, tmp_path / "apart.plan", (Shapes(1, 4, 16),))
    monkeypatch.setattr("glass_engines.trt.compiler.weights_apart", lambda *_: None)
    plan_from_onnx(build, graph, tmp_path / "whole.plan", (Shapes(1, 4, 16),))
    assert (tmp_path / "apart.plan").read_bytes() == (tmp_path / "whole.plan").read_bytes()


def test_a_full_disk_is_told_to_the_builder_and_kept() -> None:
    trt: Any = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with Path("/dev/full").open("wb", buffering=0) as file:
        writer = stream_writer(trt, file)
        assert writer.write(b"plan") == 0
    assert isinstance(writer.failure, OSError)
