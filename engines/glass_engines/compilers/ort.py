"""ONNX to an optimised ONNX graph, by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from glass_engines.compilers.base import EXACT, Compiler, compile_failure
from glass_rt.backends.ort import load_onnxruntime
from glass_rt.bundle.folder import link_or_copy
from glass_rt.errors import BuildError
from glass_rt.machine.environment import ORT_ON_CUDA, gpus, installed
from glass_rt.machine.utf8_path import utf8_path

_ERRORS_ONLY = 3


def optimised_from_onnx(graph: Path, engine: Path) -> None:
    """Writes the graph with constants folded and operators fused.

    The level is `extended`: fusions that hold on every CPU. Layouts that depend on the CPU's vector width are chosen
    when the engine is opened, so that a bundle may move between machines. Raises BuildError.
    """
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    try:
        with utf8_path(graph) as source, utf8_path(engine) as target:
            options.optimized_model_filepath = target
            ort.InferenceSession(source, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # the library raises a dozen unrelated types
        raise compile_failure("ONNX Runtime", graph, error) from error
    if not engine.is_file():
        raise BuildError(f"ONNX Runtime wrote no optimised graph for {graph.name}: is the disk full?")


def portable_from_onnx(graph: Path, engine: Path) -> None:
    """Takes the graph as it is: it is optimised for the provider, when it is opened there. Raises BuildError."""
    try:
        link_or_copy(graph, engine)
    except OSError as error:
        raise BuildError(f"{engine} cannot be written: {error.strerror}") from error


def compiler_for(precision: str) -> Compiler:
    """fp32 and INT8 are compiled for CPUs; fp16 is for CUDA, since CPUs would compute it in float32 after all."""
    if precision != "fp16":
        return Compiler(("fp32", "fp16", "int8"), "cpu", ".onnx", optimised_from_onnx, _tools, narrows={"int8": EXACT})
    return Compiler(
        ("fp16",),
        "cuda",
        ".onnx",
        portable_from_onnx,
        _tools,
        runs_here=bool(gpus()) and installed(ORT_ON_CUDA) is not None,
    )


def _tools() -> Mapping[str, str]:
    return {"onnxruntime": load_onnxruntime().__version__}
