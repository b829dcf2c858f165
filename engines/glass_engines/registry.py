"""The table of compilers: which one builds for a backend, and what `auto` stands for."""

from __future__ import annotations

import platform

from glass_engines.compilers.base import TENSORRT, Compiler
from glass_engines.trt.settings import TrtSettings
from glass_rt.errors import UsageError
from glass_rt.machine.environment import BACKEND_PACKAGES, gpus, installed


def find_compiler(backend: str, precision: str, settings: TrtSettings | None = None) -> Compiler:
    """The compiler of a backend; raises UsageError where it does not build that precision."""
    if backend == "onnxruntime":
        from glass_engines.compilers import ort

        compiler = ort.COMPILER
    elif backend == "openvino":
        from glass_engines.compilers import ov

        compiler = ov.compiler_for(precision)
    elif backend in TENSORRT:
        from glass_engines.trt import compiler as trt

        compiler = trt.compiler_for(backend, settings or TrtSettings())
    else:
        raise UsageError(
            f"backend: got {backend!r}; this version builds for onnxruntime, openvino, {', '.join(TENSORRT)}"
        )
    if precision not in compiler.precisions:
        raise UsageError(
            f"precision: {backend} engines are built in {', '.join(compiler.precisions)}, not in {precision}"
        )
    return compiler


def choose_backend(asked: str) -> str:
    """The backend that `auto` stands for: TensorRT beside an NVIDIA GPU, else OpenVINO on x86, else ONNX Runtime."""
    if asked != "auto":
        return asked
    present = [name for name in TENSORRT if any(map(installed, BACKEND_PACKAGES[name]))]
    if present and gpus():
        return present[0]
    return "openvino" if installed("openvino") and platform.machine() in ("x86_64", "AMD64") else "onnxruntime"


def choose_precision(asked: str | None, backend: str) -> str:
    """The precision where none is asked for: half on GPUs, which are made for it, else float32."""
    return asked or ("fp16" if backend in TENSORRT else "fp32")
