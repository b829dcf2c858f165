"""ONNX to OpenVINO's intermediate representation: one .xml and one .bin with the weights as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from glass_engines.compilers import Compiler
from glass_rt.backends.ov import check_precision, load_openvino
from glass_rt.errors import BuildError, first_line


def ir_from_onnx(graph: Path, engine: Path) -> None:
    """Writes `engine` (.xml) and its .bin. Raises BuildError."""
    ov = load_openvino()
    try:
        ov.save_model(ov.Core().read_model(graph), engine, compress_to_fp16=False)
    except RuntimeError as error:
        raise BuildError(f"OpenVINO cannot compile {graph.name}: {first_line(error)}") from error


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
