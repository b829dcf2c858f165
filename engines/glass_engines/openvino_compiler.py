"""ONNX to OpenVINO's intermediate representation: one .xml and one .bin with the weights as they are.

OpenVINO leaves out transposes between (N, C, H, W) and (N, H, W, C) where the batch size is fixed, and carries them
out where it is free. Graphs that are full of them (ConvNeXt's, around each LayerNorm) are written with a small fixed
batch, and `OpenVinoBackend` runs as many of those as it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glass_engines.compilers import Compiler
from glass_rt.backends.ov import check_precision, load_openvino
from glass_rt.errors import BuildError, first_line

_TO_PLANES = (0, 3, 1, 2)
# Two crops at a time: alone each takes longer, in more they are no faster. An image has one global view.
_FIXED_BATCH = {"global": 1, "local": 2}


def ir_from_onnx(graph: Path, engine: Path) -> None:
    """Writes `engine` (.xml), which is named after its role, and its .bin. Raises BuildError."""
    ov = load_openvino()
    try:
        model = ov.Core().read_model(graph)
        if _transposes_to_planes(model) > 1:  # one turns the pixels of the input
            batch = _FIXED_BATCH[engine.stem]
            model.reshape({port: [batch, *port.get_partial_shape()[1:]] for port in model.inputs})
        ov.save_model(model, engine, compress_to_fp16=False)
    except RuntimeError as error:
        raise BuildError(f"OpenVINO cannot compile {graph.name}: {first_line(error)}") from error


def _transposes_to_planes(model: Any) -> int:
    orders = [op.input_value(1).get_node() for op in model.get_ops() if op.get_type_name() == "Transpose"]
    return sum(order.get_type_name() == "Constant" and tuple(order.data) == _TO_PLANES for order in orders)


def _tools() -> Mapping[str, str]:
    return {"openvino": load_openvino().__version__}


def compiler_for(precision: str) -> Compiler:
    """OpenVINO's compiler. Raises UsageError where this processor does not compute in `precision`."""
    check_precision(precision)
    return Compiler(
        precisions=("fp32", "bf16", "int8"),
        device="cpu",
        suffix=".xml",
        compile=ir_from_onnx,
        tools=_tools,
        narrows=("bf16", "int8"),
    )
