"""Step 0: what machine this is, and its own limits: copies over the bus, copies on the device, matrix products."""
# ruff: noqa: B023  # what is timed in a loop is called before the loop goes on

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from glass_bench.gpu.hour.device import is_real, open_device
from glass_bench.gpu.hour.measure import event_ms, gb_per_s, host_ms, tflop_per_s, torch_ms
from glass_bench.gpu.hour.record import LeftOut, Record
from glass_bench.gpu.hour.which_engines import engine_backend, is_refused_by_rtx
from glass_rt.machine.environment import CODEC_PACKAGES, backend_versions, cpu_name, gpus
from glass_rt.version import __version__

PACKAGES = (
    "numpy", "torch", "torchvision", "opencv-python-headless", "simplejpeg", "cuda-bindings", "cuda-core", "onnx",
    *CODEC_PACKAGES, "nvidia-nvjpeg", "nvidia-cudnn-cu13", "nvidia-cublas", "threadpoolctl",
)  # fmt: skip
SMI_FIELDS = (
    "name,driver_version,compute_cap,memory.total,clocks.max.sm,clocks.max.memory,pcie.link.gen.max,"
    "pcie.link.width.max,power.limit,persistence_mode,mig.mode.current,ecc.mode.current"
)
HARDWARE_BACKEND = 3  # NVJPEG_BACKEND_HARDWARE
MATRIX = 8192


def software() -> dict[str, Any]:
    """Versions and cores; no names of hosts or paths."""
    found: dict[str, Any] = {name: _version(name) for name in PACKAGES}
    cores = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory_kb = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        **found, "python": platform.python_version(), "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)), "cpu": cores[0] if cores else "",
        "ram_gb": round(memory_kb / 1e6),
    }  # fmt: skip


def machine() -> dict[str, Any]:
    """What the head of the report says."""
    return {
        "glass_rt": __version__, "python": platform.python_version(), "platform": platform.platform(),
        "cpu": cpu_name(), "gpus": [vars(gpu) for gpu in gpus()], "backends": dict(backend_versions()),
    }  # fmt: skip


def engines() -> dict[str, Any]:
    """Whose engines step 8 can build."""
    return {"backend": engine_backend(), "refused_by_rtx": is_refused_by_rtx()}


def nvidia_smi() -> dict[str, Any]:
    """Its fields, and how long it takes to answer."""
    if shutil.which("nvidia-smi") is None:
        raise LeftOut("nvidia-smi is not installed")
    start = perf_counter()
    done = subprocess.run(
        ["nvidia-smi", f"--query-gpu={SMI_FIELDS}", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    )
    took_s = perf_counter() - start
    values = [value.strip() for value in done.stdout.strip().split(",")]
    return {"took_s": round(took_s, 2), **dict(zip(SMI_FIELDS.split(","), values, strict=False)), "stderr": done.stderr}


def opened() -> dict[str, Any]:
    """Our seam's own view of the card."""
    start = perf_counter()
    gpu = open_device()
    took_s = perf_counter() - start
    with gpu.current():
        free, total = gpu.memory()
    name, capability = gpu.name, gpu.compute_capability
    gpu.close()
    return {
        "name": name,
        "compute_capability": capability,
        "free_mb": free >> 20,
        "total_mb": total >> 20,
        "took_s": took_s,
    }


def transfers(scale: float) -> dict[str, Any]:
    """Copies of 6, 72 and 512 MB between host and device, from pinned and pageable memory, and into pinned memory."""
    gpu = open_device()
    found: dict[str, Any] = {}
    with gpu.current():
        stream = gpu.create_stream()
        for megabytes in (6, 72, 512):
            nbytes = max(1 << 16, int(megabytes * 1e6 * scale))
            device, other, pinned = gpu.allocate(nbytes), gpu.allocate(nbytes), gpu.allocate_pinned(nbytes)
            pageable = np.random.default_rng(0).integers(0, 256, nbytes, dtype=np.uint8)

            def waited(array: Any, address: int = device.address) -> None:
                gpu.copy_in(address, array, stream)
                gpu.synchronize(stream)

            timed = {
                "pinned_in": event_ms(gpu, stream, lambda: gpu.copy_in(device.address, pinned.array, stream), 10),
                "pinned_out": event_ms(gpu, stream, lambda: gpu.copy_out(pinned.array, device.address, stream), 10),
                "pageable_in": host_ms(lambda: waited(pageable), 5),
                "host_to_pinned": host_ms(lambda: np.copyto(pinned.array, pageable), 5),
            }
            within = event_ms(gpu, stream, lambda: gpu.copy_within(other.address, device.address, nbytes, stream), 10)
            found[f"{megabytes} MB"] = {
                **{f"{name}_gb_per_s": gb_per_s(nbytes, ms.median) for name, ms in timed.items()},
                **{f"{name}_ms": ms for name, ms in timed.items()},
                "device_copy_gb_per_s_read_and_written": gb_per_s(2 * nbytes, within.median),
            }
            for buffer in (device, other, pinned):
                gpu.free(buffer)
        gpu.destroy_stream(stream)
    gpu.close()
    return found


def peaks(scale: float) -> dict[str, Any]:
    """Matrix products of 8192 on random data, and a copy of 4 GB on the device, through torch."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = int(MATRIX * scale) // 64 * 64 or 64
    found: dict[str, Any] = {}
    for name, dtype, accumulate in (
        ("bf16", torch.bfloat16, False), ("fp16", torch.float16, False), ("fp16_half_sums", torch.float16, True),
    ):  # fmt: skip
        torch.backends.cuda.matmul.allow_fp16_accumulation = accumulate
        left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        out = torch.empty_like(left)
        took = torch_ms(lambda: torch.mm(left, right, out=out), 20 if device == "cuda" else 2)
        found[f"{name}_tflop_per_s"] = tflop_per_s(2 * size**3, took.median)
        found[f"{name}_ms"] = took
    torch.backends.cuda.matmul.allow_fp16_accumulation = False
    nbytes = int(4e9 * scale)
    source = torch.randint(0, 255, (nbytes,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    took = torch_ms(lambda: target.copy_(source), 10 if device == "cuda" else 2)
    found["device_copy_gb_per_s_read_and_written"] = gb_per_s(2 * nbytes, took.median)
    found["matrix_size"] = size
    return found


def hardware_decoder() -> dict[str, Any]:
    """What nvJPEG says of the card's JPEG engine."""
    try:
        library = _nvjpeg()
    except OSError as error:
        raise LeftOut(f"nvJPEG is not installed ({error})") from error
    if is_real():
        import torch

        torch.cuda.init()  # type: ignore[no-untyped-call]
        torch.empty(1, device="cuda")
    handle, engines, cores = ctypes.c_void_p(), ctypes.c_uint(), ctypes.c_uint()
    made = library.nvjpegCreateEx(HARDWARE_BACKEND, None, None, 0, ctypes.byref(handle))
    if made != 0:
        return {"create_status": made}
    status = library.nvjpegGetHardwareDecoderInfo(handle, ctypes.byref(engines), ctypes.byref(cores))
    return {"status": status, "engines": engines.value, "cores_per_engine": cores.value}


def _nvjpeg() -> Any:
    spec = find_spec("nvidia.cu13")
    places = [Path(place) for place in spec.submodule_search_locations or ()] if spec else []
    found = [path for place in places for path in (place / "lib").glob("libnvjpeg.so.*")]
    return ctypes.CDLL(str(found[0]) if found else "libnvjpeg.so.13")


def tools() -> dict[str, str]:
    """First lines of what the CUDA tools say."""
    found = {}
    for name in ("nvcc", "compute-sanitizer", "nvidia-smi"):
        if shutil.which(name):
            done = subprocess.run([name, "--version"], capture_output=True, text=True, check=False)
            found[name] = " | ".join((done.stdout or done.stderr).strip().splitlines()[-2:])
    return found


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def main(output: str, scale: float) -> None:
    """Writes the step's figures to `output`."""
    record = Record(Path(output))
    record.part("opened", opened)
    record.part("machine", machine)
    record.part("engines", engines)
    record.part("software", software)
    record.part("nvidia_smi", nvidia_smi)
    record.part("transfers", lambda: transfers(scale))
    record.part("peaks", lambda: peaks(scale))
    record.part("hardware_decoder", hardware_decoder)
    record.part("tools", tools)
