"""The seam through NVIDIA's bindings, run for real against a stand-in for the driver (driver_stand_in.c)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cuda.bindings.driver", reason="cuda-core is not installed: pip install 'glass-rt[cuda]'")

SCRIPT = """
import ctypes
import numpy as np
from glass_rt.backends.cuda import open_gpu
from glass_rt.backends.cuda.gpu import GpuOutOfMemory
from glass_rt.errors import BackendError

gpu = open_gpu(access="cuda-core")
assert (gpu.name, gpu.compute_capability, gpu.captures_graphs) == ("Stand-in", "8.9", True)
with gpu.current():
    assert gpu.memory() == (1000, 2000)
    first, second, stream = gpu.allocate(64), gpu.allocate(64), gpu.create_stream()
    into, out = gpu.allocate_pinned(64), gpu.allocate_pinned(64)
    begin, end = gpu.create_event(), gpu.create_event()

    def there_and_back():
        gpu.copy_in(first.address, into.array, stream)
        gpu.copy_within(second.address, first.address, 64, stream)
        gpu.copy_out(out.array[:32], second.address, stream)

    into.array[:] = np.arange(64)
    out.array[:] = 0
    gpu.record(begin, stream)
    there_and_back()
    gpu.record(end, stream)
    gpu.wait(stream, end)
    gpu.synchronize_event(end)
    gpu.synchronize(stream)
    assert (out.array[:32] == np.arange(32)).all() and (out.array[32:] == 0).all()
    assert gpu.elapsed_ms(begin, end) == 2.5
    graph = gpu.capture(stream, there_and_back)
    into.array[:] = 7
    assert out.array[0] == 0, "nothing runs while it is captured"
    gpu.launch_graph(graph, stream)
    assert (out.array[:32] == 7).all()
    kernel = gpu.load_kernel(b"image", "add")
    arguments = (np.uint64(first.address), np.int32(40), np.int32(2))
    gpu.launch(kernel, (7, 1, 1), (256, 1, 1), arguments, stream)
    gpu.copy_out(out.array, first.address, stream)
    assert out.array[:4].view(np.int32)[0] == 42
    try:
        gpu.allocate(1 << 40)
        raise SystemExit("not refused")
    except GpuOutOfMemory as error:
        assert "cuMemAlloc failed: OUT_OF_MEMORY" in str(error)
    for buffer in (first, second, into, out):
        gpu.free(buffer)
    for event in (begin, end):
        gpu.destroy_event(event)
    gpu.destroy_graph(graph)
    gpu.destroy_stream(stream)
gpu.close()
gpu.close()
assert ctypes.CDLL("libcuda.so.1").stand_in_live() == 0, "everything is given back, the context too"
try:
    open_gpu(1)
    raise SystemExit("not refused")
except BackendError as error:
    assert "cuda:1 is not there; this machine has 1 NVIDIA GPU(s)" in str(error)
print("as it should be")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the stand-in is a Linux library")
def test_every_call_of_the_seam_reaches_the_driver(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    source = Path(__file__).with_name("driver_stand_in.c")
    library = tmp_path / "libcuda.so.1"
    flags = ["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-ldl"]
    subprocess.run(["gcc", "-w", "-o", str(library), str(source), *flags], check=True)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True, text=True, check=False, env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout.strip() == "as it should be", done.stderr


def test_without_a_driver_it_says_so() -> None:
    if shutil.which("nvidia-smi"):
        pytest.skip("there is a driver here")
    code = "from glass_rt.backends.cuda import open_gpu; open_gpu(access='cuda-core')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "BackendError: no NVIDIA driver is installed" in done.stderr
