"""What the tests of backends share: the stand-in for NVIDIA's runtime, and the kernels compiled for the CPU."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import glass_rt.backends.cuda
from tests.fake_gpu import FakeGpu
from tests.fake_trt import NAMES, Bench

KERNELS = Path(str(glass_rt.backends.cuda.__file__)).parent / "kernels"
SHIM = """
#include <algorithm>
#include <cmath>
using std::max; using std::min;
#define __global__
#define __device__
struct Index { int x, y, z; };
static Index blockIdx, threadIdx, blockDim{256, 1, 1};
#include "%s"
#define EVERY(call) for (blockIdx.y = 0; blockIdx.y < ny; ++blockIdx.y) \\
  for (blockIdx.x = 0; blockIdx.x < nx; ++blockIdx.x) \\
  for (threadIdx.x = 0; threadIdx.x < 256; ++threadIdx.x) call
extern "C" void crops(int nx, int ny, uint8_t* i, int w, int* b, int s, uint8_t* o) {
  EVERY(gather_crops(i, w, b, s, o));
}
extern "C" void rows(int nx, int ny, uint8_t* i, int w, int s, int* t, float* o) { EVERY(reduce_rows(i, w, s, t, o)); }
extern "C" void columns(int nx, int ny, float* i, int w, int s, int* t, float* o) {
  EVERY(reduce_columns(i, w, s, t, o));
}
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def vendor_names() -> dict[str, dict[str, list[str]]]:
    """Names by version and class; those of the module itself under "". See record_vendor_names.py."""
    return NAMES


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Any:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not installed")
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "host.cpp").write_text(SHIM % (KERNELS / "views.cu"))
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(folder / "host.so"), str(folder / "host.cpp")]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(folder / "host.so"))


@pytest.fixture
def gpu_with_kernels(host: Any) -> Callable[..., FakeGpu]:
    """Makes GPUs in memory that run the view kernels, compiled for the CPU."""

    def emulated(gpu: FakeGpu, call: Any, pointers: tuple[int, ...]) -> Callable[..., None]:
        def run(grid: tuple[int, int, int], _block: Any, arguments: tuple[Any, ...]) -> None:
            values = [int(value) for value in arguments]
            for index in pointers:
                values[index] = gpu.bytes_at(values[index], 1).ctypes.data
            call(*grid[:2], *(ctypes.c_void_p(v) if i in pointers else v for i, v in enumerate(values)))

        return run

    def made(memory_bytes: int = 1 << 33) -> FakeGpu:
        gpu = FakeGpu(memory_bytes)
        gpu.kernels["gather_crops"] = emulated(gpu, host.crops, (0, 2, 4))
        gpu.kernels["reduce_rows"] = emulated(gpu, host.rows, (0, 3, 4))
        gpu.kernels["reduce_columns"] = emulated(gpu, host.columns, (0, 3, 4))
        return gpu

    return made
