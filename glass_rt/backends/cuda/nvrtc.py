"""CUDA source compiled on the machine that has the GPU, by NVIDIA's runtime compiler.

For GPUs and drivers that refuse what was compiled beforehand. NVRTC's own version decides which drivers load its code:
its package should be of the driver's CUDA version or an older one.
"""

from __future__ import annotations

from typing import Any

from glass_rt.errors import BackendError, MissingDependency


def compiled_from_source(source: bytes, compute_capability: str) -> bytes:
    """CUDA C++ to a module's image for one architecture, such as `8.7`; it needs no GPU.

    Raises MissingDependency where NVRTC is not there, and BackendError with its log where it refuses the source.
    """
    try:
        from cuda.bindings import nvrtc
    except ImportError:
        raise _missing("cuda-bindings") from None
    try:
        _checked(nvrtc, "nvrtcVersion", nvrtc.nvrtcVersion())
    except RuntimeError:  # the bindings found no library
        raise _missing("nvidia-cuda-nvrtc") from None
    program = _checked(nvrtc, "nvrtcCreateProgram", nvrtc.nvrtcCreateProgram(source, b"views.cu", 0, [], []))
    try:
        options = [f"--gpu-architecture=sm_{compute_capability.replace('.', '')}".encode()]
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise BackendError(f"NVRTC cannot compile the view kernels for SM {compute_capability}: {status.name}")
        # The bindings write into this object. Python shares objects of bytes, which never change: this one is new.
        content = bytes(_checked(nvrtc, "nvrtcGetCUBINSize", nvrtc.nvrtcGetCUBINSize(program)))
        _checked(nvrtc, "nvrtcGetCUBIN", nvrtc.nvrtcGetCUBIN(program, content))
        return content
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _missing(package: str) -> MissingDependency:
    return MissingDependency(package, "cuda", "compiling the view kernels for this GPU")


def _checked(nvrtc: Any, call: str, result: tuple[Any, ...]) -> Any:
    status, *values = result
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise BackendError(f"{call} failed: {status.name}")
    return values[0] if len(values) == 1 else tuple(values)
