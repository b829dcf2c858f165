"""ONNX Runtime on CUDA, as far as it can be tested without a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from glass_rt.backends import open_backend
from glass_rt.backends.ort import OnnxRuntimeBackend
from glass_rt.errors import BackendError

pytest.importorskip("onnxruntime")


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """embedding = the pixels as float32."""
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", 4])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 4])
    node = helper.make_node("Cast", ["pixels"], ["embedding"], to=TensorProto.FLOAT)
    graph = helper.make_graph([node], "cast", [pixels], [embedding])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, tmp_path / "cast.onnx")
    return tmp_path / "cast.onnx"


def test_an_io_binding_gives_what_a_run_gives(engine: Path) -> None:
    backend = OnnxRuntimeBackend(engine)
    feeds = {"pixels": np.arange(12, dtype=np.uint8).reshape(3, 4)[:, ::-1]}  # not contiguous
    plain = backend.run(feeds)
    backend._bound_to = ("cpu", 0)
    bound = backend.run(feeds)
    np.testing.assert_array_equal(bound["embedding"], plain["embedding"])
    np.testing.assert_array_equal(bound["embedding"], feeds["pixels"])


# The library warns on standard error that it falls back; it is the silence of its API that is tested.
def test_a_fallback_to_the_cpu_is_an_error(engine: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(BackendError, match=r"runs on CPUExecutionProvider, not on the CUDAExecutionProvider asked for"),
    ):
        open_backend("onnxruntime", engine, device="cuda")
