"""Portable ONNX graphs to engine files, one function per vendor's compiler."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from glass_engines.trt_settings import TrtSettings
from glass_rt.environment import BACKEND_PACKAGES, gpus, installed
from glass_rt.errors import UsageError
from glass_rt.requirements import Profile, Requirements

TENSORRT = ("tensorrt", "tensorrt_rtx")


@dataclass(frozen=True)
class Compiler:
    """One vendor's compiler: which precisions it builds, for which device, and how.

    `compile(graph, engine)` writes the engine file, which is named after its role. `max_batch` overrules the caller's
    where batch sizes are part of the engine. `runs_here` False: the engine cannot be tried on this machine.
    `narrows` are the precisions that are made from the float32 graph, by the runtime or by quantising it; the others
    need a graph of their own.
    """

    precisions: tuple[str, ...]
    device: str
    suffix: str
    compile: Callable[[Path, Path], None]
    tools: Callable[[], Mapping[str, str]]
    max_batch: int | None = None
    requirements: Requirements | None = None
    profile: Profile | None = None
    runs_here: bool = True
    narrows: tuple[str, ...] = ()

    def graph_precision(self, precision: str) -> str:
        """Precision of the portable graph that an engine of `precision` is compiled from."""
        return "fp32" if precision in self.narrows else precision


def find_compiler(backend: str, precision: str, settings: TrtSettings | None = None) -> Compiler:
    """The compiler of a backend; raises UsageError where it does not build that precision."""
    if backend == "onnxruntime":
        from glass_engines import onnxruntime_compiler

        compiler = onnxruntime_compiler.COMPILER
    elif backend == "openvino":
        from glass_engines import openvino_compiler

        compiler = openvino_compiler.compiler_for(precision)
    elif backend in TENSORRT:
        from glass_engines import trt_compiler

        compiler = trt_compiler.compiler_for(backend, settings or TrtSettings())
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
