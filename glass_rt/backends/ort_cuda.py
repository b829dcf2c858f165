"""What ONNX Runtime's CUDA provider needs of this machine, and what is missing of it."""

from __future__ import annotations

import ctypes
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from glass_rt.errors import first_line
from glass_rt.machine.cuda_driver import cuda_devices
from glass_rt.machine.extras import install_command

CUDA = "CUDAExecutionProvider"


def preload_libraries(ort: Any) -> None:
    """Has the library find CUDA's and cuDNN's libraries in Python packages (PyTorch's too); older ones cannot.

    What it does not find it prints; the provider's own error, which `why_not_cuda` gives, is the one to read.
    """
    preload = getattr(ort, "preload_dlls", None)
    if preload is None:
        return
    with redirect_stdout(StringIO()):
        preload()


def why_not_cuda(ort: Any) -> str:
    """Why ONNX Runtime did not take its CUDA provider, and what to do: one clause.

    The library says it on standard error alone, so the same is looked for here: a package without CUDA, no driver, or
    a library of CUDA or cuDNN that the provider needs and the system does not find.
    """
    if not _made_for_cuda(ort):
        return (
            f"the onnxruntime {ort.__version__} installed here is made for CPUs, and takes the place of the one for "
            f"CUDA: pip uninstall onnxruntime; {install_command('gpu')}"
        )
    provider = Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    missing = _cannot_load(provider)
    if not cuda_devices():
        also = f"; besides, {missing}" if missing and "libcuda.so" not in missing else ""
        return f"no NVIDIA driver starts here, or this process sees no GPU (nvidia-smi must list it){also}"
    if missing:
        return f"{missing}. The extra brings CUDA's libraries and cuDNN: {install_command('gpu')} --upgrade"
    return "its CUDA libraries load, so the driver may be too old for them; onnxruntime.print_debug_info() lists both"


def _made_for_cuda(ort: Any) -> bool:
    """Whether this build has CUDA: built in, or as a plug-in that it brings, and lists once that is loaded."""
    build = getattr(ort, "get_build_info", str)()
    return CUDA in ort.get_available_providers() or "cuda-plugin-ep=" in build


def _cannot_load(provider: Path) -> str:
    """What the system says of a provider's library; empty where it loads, or is not there to be tried."""
    shared = provider.with_name("libonnxruntime_providers_shared.so")
    if not provider.is_file():
        return ""
    try:
        ctypes.CDLL(str(shared), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(provider))
    except OSError as error:
        return first_line(error)
    return ""
