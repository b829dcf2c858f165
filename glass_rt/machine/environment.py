"""What this machine has: packages, processor, GPU. Nothing here imports a vendor library."""

from __future__ import annotations

import hashlib
import math
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

from glass_rt.machine.cuda_driver import cuda_devices
from glass_rt.machine.limits.cgroup import cpu_quota

ORT_ON_CUDA = "onnxruntime-gpu"
_PLUGIN = "onnxruntime-ep-"
# Distribution names by backend, in the order in which they are looked for. Those of one CUDA version are what NVIDIA's
# plain names bring, and are installed by themselves as well.
BACKEND_PACKAGES = {
    "onnxruntime": ("onnxruntime", ORT_ON_CUDA, "onnxruntime-directml"),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    "tensorrt_rtx": ("tensorrt_rtx", "tensorrt-rtx-cu13", "tensorrt-rtx-cu12"),
}
CODEC_PACKAGES = ("nvidia-nvimgcodec-cu13", "nvidia-nvimgcodec-cu12", "nvidia-nvimgcodec-tegra-cu12")
_RIVALS = ("onnxruntime",)  # backends whose packages are builds that exclude each other
# Lines of /proc/cpuinfo, on x86-64 and on arm64.
_TELLING = {"vendor_id", "cpu family", "model", "model name", "stepping", "flags", "Features", "CPU implementer",
            "CPU architecture", "CPU variant", "CPU part", "CPU revision"}  # fmt: skip
_DRIVER_VERSION = re.compile(r"\d{3,}(\.\d+){1,2}")
_CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimddp", "bf16", "i8mm")


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU, as the driver or `nvidia-smi` names it; what neither tells is `[N/A]`."""

    name: str
    driver: str
    memory: str
    compute_capability: str


def installed(package: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def backend_versions() -> Mapping[str, str | None]:
    """Installed versions by backend, as `package version`."""
    found: dict[str, str | None] = {}
    for backend, packages in BACKEND_PACKAGES.items():
        present = [f"{name} {number}" for name in packages if (number := installed(name))]
        found[backend] = ", ".join(present if backend in _RIVALS else present[:1]) or None
    return found


def library_version(backend: str) -> str | None:
    """The installed version of a backend's library, by whichever package brings it, or None."""
    return next((number for name in BACKEND_PACKAGES[backend] if (number := installed(name))), None)


def ort_plugins() -> Mapping[str, str]:
    """Installed packages of plug-ins for ONNX Runtime by the name that `--device plugin:NAME` takes, with versions."""
    named = {(each.metadata["Name"] or "").lower().replace("_", "-"): each.version for each in distributions()}
    return {name[len(_PLUGIN) :]: number for name, number in sorted(named.items()) if name.startswith(_PLUGIN)}


def cpu_name() -> str:
    """The processor's model name and the vector extensions that engines use."""
    name, flags = platform.processor() or platform.machine(), set[str]()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            if key.strip() in ("flags", "Features"):
                flags = set(value.split())
                break
    except OSError:
        pass
    extensions = [flag for flag in _CPU_FLAGS if flag in flags]
    return f"{name} ({platform.machine()}{''.join(', ' + flag for flag in extensions)})"


@cache
def cpu_fingerprint() -> str:
    """What tells processors apart for which code is compiled: SHA-256 of the model and all that it can do, in hex."""
    told = [platform.machine(), platform.system()]
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n", 1)[0]
    except OSError:
        told.append(platform.processor())
    else:
        lines = (line.partition(":") for line in first.splitlines())
        told += [value.strip() for name, _, value in lines if name.strip() in _TELLING]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def usable_cores() -> int:
    """Cores that this process may keep busy: those that it may run on, or as many as its control group's quota fills.

    A quota of 1.5 fills two: threads that are stopped for a while cost less than half a CPU left idle.
    """
    cores, quota = _allowed_cores(), cpu_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def limited_cores() -> int | None:
    """`usable_cores` where a quota leaves fewer than this process may run on, which libraries do not see; else None."""
    cores = usable_cores()
    return cores if cores < _allowed_cores() else None


def _allowed_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def installed_memory() -> int:
    """Bytes of this machine's main memory; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def gpus() -> tuple[Gpu, ...]:
    """The NVIDIA GPUs by CUDA's numbers, as the driver names them; as nvidia-smi lists them where it does not start.

    () where there is neither. A field that neither tells is `[N/A]`.
    """
    devices = cuda_devices()
    if not devices:
        return tuple(Gpu(*row) for row in _listed("name,driver_version,memory.total,compute_cap"))
    driver = _driver_version()
    return tuple(
        Gpu(device.name, driver, f"{device.memory_bytes >> 20} MiB", device.compute_capability) for device in devices
    )


@cache
def _driver_version() -> str:
    """The driver's version, such as `580.65.06`; asked for once, since nvidia-smi may take seconds."""
    for row in _listed("driver_version"):
        if row[0][:1].isdigit():
            return row[0]
    try:  # Jetsons without nvidia-smi, and containers that lack it
        words = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").split()
    except OSError:
        return "[N/A]"
    return next((word for word in words if _DRIVER_VERSION.fullmatch(word)), "[N/A]")


def _listed(fields: str) -> list[list[str]]:
    """nvidia-smi's rows of those fields; [] where it is not there, or fails."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    try:
        listing = subprocess.run(
            [command, f"--query-gpu={fields}", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in listing.stdout.splitlines()]
    return [row for row in rows if len(row) == len(fields.split(","))]
