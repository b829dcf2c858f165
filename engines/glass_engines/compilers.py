"""Portable ONNX graphs to engine files, one function per vendor's compiler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from glass_rt.errors import UsageError


@dataclass(frozen=True)
class Compiler:
    """One vendor's compiler: which precisions it builds, for which device, and how."""

    precisions: tuple[str, ...]
    device: str
    suffix: str
    compile: Callable[[Path, Path], None]
    tools: Callable[[], Mapping[str, str]]


def find_compiler(backend: str, precision: str) -> Compiler:
    """The compiler of a backend; raises UsageError where it does not build that precision."""
    if backend == "onnxruntime":
        from glass_engines import onnxruntime_compiler

        compiler = onnxruntime_compiler.COMPILER
    else:
        raise UsageError(f"backend: got {backend!r}; this version builds for onnxruntime")
    if precision not in compiler.precisions:
        raise UsageError(
            f"precision: {backend} engines are built in {', '.join(compiler.precisions)}, not in {precision}"
        )
    return compiler


def choose_backend(asked: str) -> str:
    """The backend that `auto` stands for on this machine."""
    return "onnxruntime" if asked == "auto" else asked
