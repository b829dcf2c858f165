"""One adapter per vendor library; the library itself is imported when an engine of its kind is opened."""

from __future__ import annotations

from pathlib import Path

from glass_rt.backends.base import Backend, TensorSpec
from glass_rt.bundle.checked_files import EngineFile
from glass_rt.errors import UsageError

BACKENDS = ("onnxruntime", "openvino", "tensorrt", "tensorrt_rtx")


def open_backend(
    name: str,
    engine: Path | EngineFile,
    *,
    precision: str = "fp32",
    device: str | None = None,
    threads: int | None = None,
    cache: bool = True,
    batch: int | None = None,
) -> Backend:
    """Opens an engine: the one at a path, or one of a bundle, whose files are compared with its manifest.

    `precision` is the one that the engine was built in, for backends that decide it when they open one. `device` is the
    backend's own default where None; `threads` is the number of CPU threads one run may use (None: a thread per
    physical core). `cache`: keep what the library compiles for this machine, and use what was kept. `batch`: views in a
    run, for devices whose engines have a fixed number of them. Raises
    MissingDependency, BackendError, OutOfMemory, or UsageError for an unknown name or device, and BundleInvalid where a
    bundle's file was altered.
    """
    if name == "onnxruntime":
        from glass_rt.backends.ort import OnnxRuntimeBackend

        return OnnxRuntimeBackend(engine, device=device or "cpu", threads=threads, batch=batch)
    if name == "openvino":
        from glass_rt.backends.ov import OpenVinoBackend

        return OpenVinoBackend(engine, precision=precision, device=device or "cpu", threads=threads, cache=cache)
    if name in ("tensorrt", "tensorrt_rtx"):
        from glass_rt.backends.trt.backend import open_trt

        return open_trt(name, engine, device=device, cache=cache)
    raise UsageError(f"backend: got {name!r}; this glass-rt has {', '.join(BACKENDS)}")


__all__ = ["BACKENDS", "Backend", "TensorSpec", "open_backend"]
