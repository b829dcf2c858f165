"""What this machine has: packages, processor, GPU. Nothing here imports a vendor library."""

from __future__ import annotations

import hashlib
import math
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from glass_rt.machine.cgroup import cpu_quota

# Distribution names by backend, in the order in which they are looked for.
BACKEND_PACKAGES = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt",),
    "tensorrt_rtx": ("tensorrt_rtx",),
}
# Lines of /proc/cpuinfo, on x86-64 and on arm64.
_TELLING = {"vendor_id", "cpu family", "model", "model name", "stepping", "flags", "Features", "CPU implementer",
            "CPU architecture", "CPU variant", "CPU part", "CPU revision"}  # fmt: skip
_CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimddp", "bf16", "i8mm")


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU, as `nvidia-smi` names it."""

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
        found[backend] = ", ".join(present) or None
    return found


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


def gpus() -> tuple[Gpu, ...]:
    """The NVIDIA GPUs that `nvidia-smi` lists; () where there is none, or no driver."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return ()
    fields = "name,driver_version,memory.total,compute_cap"
    try:
        listing = subprocess.run(
            [command, f"--query-gpu={fields}", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [[cell.strip() for cell in line.split(",")] for line in listing.stdout.splitlines()]
    return tuple(Gpu(*row) for row in rows if len(row) == 4)
