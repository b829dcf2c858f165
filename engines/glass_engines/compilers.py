"""Portable ONNX graphs to engine files, one function per vendor's compiler."""

from __future__ import annotations

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


def find_compiler(backend: str, precision: str, settings: TrtSettings | None = None) -> Compiler:
    """The compiler of a backend; raises UsageError where it does not build that precision."""
    if backend == "onnxruntime":
        from glass_engines import onnxruntime_compiler

        compiler = onnxruntime_compiler.COMPILER
    elif backend in TENSORRT:
        from glass_engines import trt_compiler

        compiler = trt_compiler.compiler_for(backend, settings or TrtSettings())
    else:
        raise UsageError(f"backend: got {backend!r}; this version builds for onnxruntime, {', '.join(TENSORRT)}")
    if precision not in compiler.precisions:
        raise UsageError(
            f"precision: {backend} engines are built in {', '.join(compiler.precisions)}, not in {precision}"
        )
    return compiler


def choose_backend(asked: str) -> str:
    """The backend that `auto` stands for on this machine: TensorRT where it and an NVIDIA GPU are there."""
    if asked != "auto":
        return asked
    present = [name for name in TENSORRT if any(map(installed, BACKEND_PACKAGES[name]))]
    return present[0] if present and gpus() else "onnxruntime"


def choose_precision(asked: str | None, backend: str) -> str:
    """The precision where none is asked for: half on GPUs, which are made for it, else float32."""
    return asked or ("fp16" if backend in TENSORRT else "fp32")
