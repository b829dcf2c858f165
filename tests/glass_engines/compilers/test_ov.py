"""What OpenVINO's compiler does to a graph, on small ones."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from glass_rt.backends import open_backend
from glass_rt.backends.ov import check_precision
from glass_rt.errors import UsageError

pytest.importorskip("openvino")

from glass_engines.compilers.ov import bf16_bits, ir_from_onnx


def graph_with_transposes(path: Path, count: int) -> Path:
    """Pixels (N, 4, 6, 3) turned `count` times between the layouts, then the mean of each channel."""
    nodes = [helper.make_node("Cast", ["pixels"], ["x0"], to=TensorProto.FLOAT)]
    for number in range(count):
        order = [0, 2, 3, 1] if number % 2 else [0, 3, 1, 2]
        nodes.append(helper.make_node("Transpose", [f"x{number}"], [f"t{number}"], perm=order))
        nodes.append(helper.make_node("Relu", [f"t{number}"], [f"x{number + 1}"]))  # or two would cancel out
    axes = [1, 2] if count % 2 == 0 else [2, 3]
    axes_in = helper.make_tensor("axes", TensorProto.INT64, [2], axes)
    nodes.append(helper.make_node("ReduceMean", [f"x{count}", "axes"], ["embedding"], keepdims=0))
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", 4, 6, 3])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 3])
    graph = helper.make_graph(nodes, "g", [pixels], [embedding], [axes_in])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.mark.parametrize("role", ["global", "local"])
@pytest.mark.parametrize("transposes", [1, 2, 3, 5])
def test_graphs_full_of_transposes_are_written_for_few_views_and_take_any_number(
    transposes: int, role: str, tmp_path: Path
) -> None:
    engine = tmp_path / f"{role}.xml"
    ir_from_onnx(graph_with_transposes(tmp_path / "g.onnx", transposes), engine)
    batch = "?" if transposes <= 2 else {"global": "1", "local": "2"}[role]
    assert f'shape="{batch},4,6,3"' in engine.read_text(encoding="utf-8")
    backend = open_backend("openvino", engine)
    assert str(backend.inputs[0]) == "pixels (N, 4, 6, 3) uint8"
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    together = backend.run({"pixels": pixels})["embedding"]
    np.testing.assert_allclose(together, pixels.mean((1, 2)), rtol=1e-5)
    for count in (1, 2, 3, 4):
        assert (backend.run({"pixels": pixels[:count]})["embedding"] == together[:count]).all()


def test_weights_are_rounded_to_bf16_as_pytorch_rounds_them() -> None:
    bits = np.random.default_rng(0).integers(0, 1 << 32, 100_000, dtype=np.uint32)
    ties = np.array([0x3F808000, 0x3F818000, 0xBF808000, 0x7F7F7FFF, 0x00000001], np.uint32)
    values = np.concatenate([bits, ties]).view(np.float32)
    values = values[np.isfinite(values)]
    expected = torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(bf16_bits(values), expected)


def test_an_engine_with_weights_in_bf16_is_half_as_large_and_computes_the_same(tmp_path: Path) -> None:
    try:
        check_precision("bf16")
    except UsageError as error:
        pytest.skip(str(error))
    graph = tmp_path / "graph.onnx"
    torch.manual_seed(0)
    layers = (torch.nn.Linear(3, 512), torch.nn.GELU(), torch.nn.Linear(512, 512), torch.nn.Linear(512, 64))
    torch.onnx.export(
        torch.nn.Sequential(*layers).eval(),
        (torch.zeros(2, 3),),
        graph,
        input_names=["pixels"],
        output_names=["embedding"],
        dynamic_shapes=({0: torch.export.Dim("N")},),
        external_data=False,
        verbose=False,
    )
    whole, half = tmp_path / "whole.xml", tmp_path / "half.xml"
    ir_from_onnx(graph, whole)
    ir_from_onnx(graph, half, weights_in_bf16=True)
    assert half.with_suffix(".bin").stat().st_size < 0.52 * whole.with_suffix(".bin").stat().st_size
    assert half.read_text(encoding="utf-8").count('name="decompression"') == 2, "the first layer is too small"
    pixels = torch.rand(5, 3).numpy()
    expected, found = (
        open_backend("openvino", engine, precision="bf16").run({"pixels": pixels})["embedding"]
        for engine in (whole, half)
    )
    np.testing.assert_array_equal(found, expected)
