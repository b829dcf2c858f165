"""GPUs as the driver tells them, against a stand-in for it; nvidia-smi is a script that says what it must."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the stand-in is a Linux library")

# Two devices, in CUDA's order; CUDA_VISIBLE_DEVICES hides the first, as in the real driver.
DRIVER = """
#include <stdlib.h>
#include <string.h>
static int hidden(void) { const char *v = getenv("CUDA_VISIBLE_DEVICES"); return v && !strcmp(v, "1"); }
int cuInit(unsigned f) { return f ? 1 : STARTS; }
int cuDeviceGetCount(int *n) { *n = 2 - hidden(); return 0; }
int cuDeviceGet(int *d, int i) { *d = i + hidden(); return 0; }
int cuDeviceGetName(char *s, int n, int d) { if (d == BROKEN) return 46; strncpy(s, d ? "Orin" : "NVIDIA L4", n); return 0; }
int cuDeviceTotalMem_v2(size_t *s, int d) { *s = (d ? 8ull : 24ull) << 30; return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 8 : a == 76 ? (d ? 7 : 9) : -1; return 0; }
"""
SMI = """#!/bin/sh
case "$1" in *name*) echo "{row}" ;; *) echo "{driver}" ;; esac
"""
CODE = """
import json
from dataclasses import asdict
from glass_rt.machine.device import named_gpu
print(json.dumps([gpu and asdict(gpu) for gpu in map(named_gpu, (None, "cuda:0", "cuda:1", "cuda:2"))]))
"""
L4 = {"name": "NVIDIA L4", "driver": "580.65.06", "memory": "24576 MiB", "compute_capability": "8.9"}
ORIN = {"name": "Orin", "driver": "580.65.06", "memory": "8192 MiB", "compute_capability": "8.7"}
LISTED = {"name": "NVIDIA T4", "driver": "580.65.06", "memory": "15360 MiB", "compute_capability": "7.5"}
NOT_TOLD = ("Orin (nvgpu), [N/A], [N/A], [N/A]", "[N/A]")
T4 = ("NVIDIA T4, 580.65.06, 15360 MiB, 7.5", "580.65.06")


def compiled(folder: Path, starts: int, broken: int = -1) -> None:
    """The stand-in as `libcuda.so.1`; `broken`: the device that the driver tells nothing of."""
    source = folder / "driver.c"
    source.write_text(DRIVER.replace("STARTS", str(starts)).replace("BROKEN", str(broken)))
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", folder / "libcuda.so.1", source], check=True)


def test_a_device_that_the_driver_tells_nothing_of_keeps_its_number(tmp_path: Path) -> None:
    """Else the one after it would be checked, and the one before it opened."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    compiled(tmp_path, 0, broken=0)
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    environment |= {"LD_LIBRARY_PATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env=environment)
    named = [gpu and (gpu["name"], gpu["compute_capability"]) for gpu in json.loads(done.stdout)]
    assert named == [("[N/A]", "[N/A]"), ("[N/A]", "[N/A]"), ("Orin", "8.7"), None]


@pytest.mark.parametrize(
    ("starts", "words"),
    [
        (0, None),
        (100, None),  # a machine without a GPU, or a container that was given none
        (802, "(cuInit: SYSTEM_NOT_READY): GPUs joined by NVSwitch need NVIDIA's fabric manager"),
        (803, "(cuInit: SYSTEM_DRIVER_MISMATCH): the kernel's module and libcuda.so.1 are of different drivers"),
        (999, "(cuInit: UNKNOWN): the kernel's module nvidia_uvm may not be loaded"),
        (34, "(cuInit: 34): nvidia-smi must list the GPU"),  # the library of the toolkit, to link against
    ],
)
def test_the_doctor_says_why_a_driver_does_not_start(tmp_path: Path, starts: int, words: str | None) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    compiled(tmp_path, starts)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    command = [sys.executable, "-c", "from glass_rt.cli.doctor import _problems; print(*_problems(), sep=chr(10))"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found = [line for line in done.stdout.splitlines() if "cuInit" in line]
    assert len(found) == int(words is not None)
    assert words is None or found[0].startswith(f"the NVIDIA driver is installed, but does not start {words}")


@pytest.mark.parametrize(
    ("starts", "smi", "visible", "expected"),
    [
        (0, T4, None, [L4, L4, ORIN, None]),  # nvidia-smi has numbers of its own
        (0, T4, "1", [ORIN, ORIN, None, None]),
        (0, NOT_TOLD, "1", [{**ORIN, "driver": "[N/A]"}] * 2 + [None] * 2),  # a Jetson
        (0, None, "1", [{**ORIN, "driver": "[N/A]"}] * 2 + [None] * 2),  # a bare container
        (802, T4, None, [LISTED, LISTED, None, None]),  # a driver that does not start: opening the GPU says why
        (100, None, None, [None] * 4),
        (None, T4, None, [LISTED, LISTED, None, None]),
        (None, None, None, [None] * 4),
    ],
)
def test_a_number_is_the_drivers(
    tmp_path: Path, starts: int | None, smi: tuple[str, str] | None, visible: str | None, expected: list[object]
) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("this machine has a driver, whose version would be told")
    if starts is not None:
        compiled(tmp_path, starts)
    if smi is not None:
        script = tmp_path / "nvidia-smi"
        script.write_text(SMI.format(row=smi[0], driver=smi[1]))
        script.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    environment |= {"LD_LIBRARY_PATH": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin"}
    environment |= {"CUDA_VISIBLE_DEVICES": visible} if visible else {}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env=environment)
    assert json.loads(done.stdout) == expected
