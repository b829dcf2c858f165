"""The table of compilers: which one builds for a backend, and what `auto` stands for."""

from __future__ import annotations

import platform

from glass_engines.compilers.base import TENSORRT, Compiler
from glass_engines.trt.settings import TrtSettings
from glass_rt.backends.trt.library import builds_for
from glass_rt.bundle.requirements import is_capability
from glass_rt.errors import UsageError
from glass_rt.machine.environment import BACKEND_PACKAGES, ORT_ON_CUDA, gpus, installed


def find_compiler(backend: str, precision: str, settings: TrtSettings | None = None) -> Compiler:
    """The compiler of a backend; raises UsageError where it does not build that precision."""
    if backend == "onnxruntime":
        from glass_engines.compilers import ort

        compiler = ort.compiler_for(precision)
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
    """The backend that `auto` stands for.

    Beside an NVIDIA GPU: TensorRT, or TensorRT for RTX where it builds for that GPU, or ONNX Runtime's package for
    CUDA; elsewhere OpenVINO on x86, or ONNX Runtime. Of those, the first that is installed.
    """
    if asked != "auto":
        return asked
    here = [gpu for gpu in gpus()[:1] if is_capability(gpu.compute_capability)]
    for name in TENSORRT if here else ():
        if any(map(installed, BACKEND_PACKAGES[name])) and builds_for(name, here[0].compute_capability):
            return name
    if here and installed(ORT_ON_CUDA):
        return "onnxruntime"
    return "openvino" if installed("openvino") and platform.machine() in ("x86_64", "AMD64") else "onnxruntime"


def choose_precision(asked: str | None, backend: str) -> str:
    """The precision where none is asked for: half on GPUs, which are made for it, else float32."""
    return asked or ("fp16" if backend in TENSORRT or (backend == "onnxruntime" and _has_cuda()) else "fp32")


def _has_cuda() -> bool:
    """Whether ONNX Runtime's package for CUDA is here, beside a GPU."""
    return installed(ORT_ON_CUDA) is not None and bool(gpus())
