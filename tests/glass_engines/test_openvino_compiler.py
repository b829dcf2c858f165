"""What OpenVINO's compiler does to a graph, on small ones."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from glass_rt.backends import open_backend

pytest.importorskip("openvino")

from glass_engines.openvino_compiler import ir_from_onnx


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
