"""The NVIDIA GPUs as the driver's own library numbers them, without a package of NVIDIA's.

`cuda:N` is the driver's number: it follows CUDA_VISIBLE_DEVICES and CUDA's own order, sees a slice of MIG as a device,
and is there on Jetsons, where nvidia-smi tells nothing. Source: CUDA driver API, device management.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
NOT_TOLD = "[N/A]"  # as nvidia-smi writes it
# What to do where the driver is there and does not start, by the number and the name of cuInit's result (CUresult).
_NO_DEVICE = 100
_START_REMEDIES = {
    _NO_DEVICE: (
        "NO_DEVICE",
        "this process sees no GPU; see CUDA_VISIBLE_DEVICES, the container's options and nvidia-smi -L",
    ),
    802: (
        "SYSTEM_NOT_READY",
        "GPUs joined by NVSwitch need NVIDIA's fabric manager; systemctl status nvidia-fabricmanager",
    ),
    803: (
        "SYSTEM_DRIVER_MISMATCH",
        "the kernel's module and libcuda.so.1 are of different drivers; reboot after an update",
    ),
    999: ("UNKNOWN", "the kernel's module nvidia_uvm may not be loaded; nvidia-modprobe -u -c 0"),
}
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR


@dataclass(frozen=True)
class CudaDevice:
    """One device: the driver's name, the compute capability (`8.9`), and its memory in bytes.

    Of a device that the driver tells nothing of, the name and the capability are `[N/A]`: it keeps its number.
    """

    name: str
    compute_capability: str
    memory_bytes: int


def cuda_devices() -> tuple[CudaDevice, ...] | None:
    """The devices that this process sees, by number; None where there is no driver, or it does not start.

    This initialises CUDA in this process, which takes no context and no memory of a device.
    """
    library = _library()
    count = ctypes.c_int()
    if library is None or library.cuInit(0) != 0 or library.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return None
    return tuple(_device(library, index) for index in range(count.value))


def why_not_started() -> str | None:
    """Why a driver that is installed does not start, and what to do; None where it does, or there is no GPU for it."""
    library = _library()
    result = 0 if library is None else int(library.cuInit(0))
    if result in (0, _NO_DEVICE):
        return None
    name, _ = _START_REMEDIES.get(result, (str(result), ""))
    return does_not_start(name)


def does_not_start(name: str) -> str:
    """The sentence for a driver whose cuInit gives the result of that name, such as `NO_DEVICE`."""
    remedy = dict(_START_REMEDIES.values()).get(name, "nvidia-smi must list the GPU")
    return f"the NVIDIA driver is installed, but does not start (cuInit: {name}): {remedy}"


def _library() -> Any | None:
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError:
        return None


def _device(library: Any, index: int) -> CudaDevice:
    number, name, size = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
    major, minor = ctypes.c_int(), ctypes.c_int()
    calls: tuple[Callable[[], int], ...] = (
        lambda: library.cuDeviceGet(ctypes.byref(number), index),
        lambda: library.cuDeviceGetName(name, len(name), number),
        lambda: library.cuDeviceTotalMem_v2(ctypes.byref(size), number),
        lambda: library.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, number),
        lambda: library.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, number),
    )
    if any(call() != 0 for call in calls):
        return CudaDevice(NOT_TOLD, NOT_TOLD, 0)
    return CudaDevice(name.value.decode(errors="replace"), f"{major.value}.{minor.value}", size.value)
