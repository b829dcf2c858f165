"""Whose engines this machine's GPU can run, of the libraries that are installed."""

from __future__ import annotations

from glass_engines.compilers.base import TENSORRT
from glass_engines.registry import choose_backend

from glass_rt.backends.trt.library import builds_for
from glass_rt.bundle.requirements import is_capability
from glass_rt.machine.environment import ORT_ON_CUDA, gpus, installed, library_version


def engine_backend() -> str | None:
    """The library whose engines run on this machine's GPU; None where none is installed."""
    chosen = choose_backend("auto")
    on_gpus = chosen in TENSORRT or (chosen == "onnxruntime" and gpus() and installed(ORT_ON_CUDA))
    return chosen if on_gpus else None


def is_refused_by_rtx() -> bool:
    """Whether TensorRT for RTX is installed beside a card that it does not run on."""
    capabilities = [gpu.compute_capability for gpu in gpus()[:1] if is_capability(gpu.compute_capability)]
    return bool(library_version("tensorrt_rtx")) and not all(builds_for("tensorrt_rtx", item) for item in capabilities)
