"""The interface to the GPU: memory, copies, streams, events, graphs and kernels."""

from __future__ import annotations

import os
from collections.abc import Callable

from glass_rt.backends.cuda.gpu import GpuDriver
from glass_rt.errors import MissingDependency, UsageError

ACCESS_VARIABLE = "GLASS_RT_GPU_ACCESS"
ACCESS = ("cuda-core", "pycuda")


def open_gpu(index: int = 0, access: str | None = None) -> GpuDriver:
    """The GPU `index`, through `access` (`cuda-core` or `pycuda`), else $GLASS_RT_GPU_ACCESS, else what is installed.

    cuda-core is preferred: it captures graphs. Raises MissingDependency, UsageError, BackendError.
    """
    wanted = access or os.environ.get(ACCESS_VARIABLE)
    if wanted not in (None, *ACCESS):
        raise UsageError(f"GPU access: got {wanted!r}; expected one of {', '.join(ACCESS)} (${ACCESS_VARIABLE})")
    for name in (wanted,) if wanted else ACCESS:
        opener = _opener(name)
        if opener is not None:
            return opener(index)
    raise MissingDependency(wanted or "cuda-core", "cuda", "reaching the GPU")


def _opener(access: str) -> Callable[[int], GpuDriver] | None:
    try:
        if access == "pycuda":
            from glass_rt.backends.cuda.pycuda_gpu import PycudaGpu

            return PycudaGpu
        from glass_rt.backends.cuda.bindings_gpu import BindingsGpu
    except ImportError:
        return None
    return BindingsGpu


__all__ = ["ACCESS", "ACCESS_VARIABLE", "GpuDriver", "open_gpu"]
