"""GpuDriver through cuda-core's bindings and through pycuda, against a stand-in for the driver (driver_stand_in.c)."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

OPEN = "from glass_rt.backends.cuda import open_gpu; open_gpu(access='cuda-core')"
SCRIPT = """
import ctypes, sys
import numpy as np
from glass_rt.backends.cuda import open_gpu
from glass_rt.backends.cuda.gpu import GpuError, GpuOutOfMemory
from glass_rt.errors import BackendError

gpu = open_gpu(access=sys.argv[1])
assert (gpu.name, gpu.compute_capability) == ("Stand-in", "8.9")
assert gpu.captures_graphs == (sys.argv[1] == "cuda-core")
with gpu.current():
    assert gpu.memory() == (1000, 2000)
    first, second, stream = gpu.allocate(64), gpu.allocate(64), gpu.create_stream()
    into, out = gpu.allocate_pinned(64), gpu.allocate_pinned(64)
    begin, end = gpu.create_event(timed=True), gpu.create_event(timed=True)
    asleep = gpu.create_event()

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
    try:
        gpu.elapsed_ms(begin, asleep)
        raise SystemExit("waiting for an event takes a core")
    except GpuError as error:
        assert not error.lost
    if gpu.captures_graphs:
        graph = gpu.capture(stream, there_and_back)
        into.array[:] = 7
        assert out.array[0] == 0, "nothing runs while it is captured"
        gpu.launch_graph(graph, stream)
        assert (out.array[:32] == 7).all()
        gpu.destroy_graph(graph)
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
    try:
        gpu.allocate(0)
        raise SystemExit("not refused")
    except GpuError as error:
        assert not error.lost and not isinstance(error, GpuOutOfMemory), error
        assert str(error).startswith("cuMemAlloc failed: inv") or "INVALID_VALUE" in str(error), error
    del kernel  # pycuda's keeps its module
    for buffer in (first, second, into, out):
        gpu.free(buffer)
    for event in (begin, end, asleep):
        gpu.destroy_event(event)
    gpu.destroy_stream(stream)
gpu.close()
gpu.close()
left = ctypes.CDLL("libcuda.so.1").stand_in_live()
# pycuda pushes the primary context once more to release it, and takes it to be popped by that.
assert left == (0 if sys.argv[1] == "cuda-core" else 1000000), f"everything is given back, the context too: {left}"
try:
    open_gpu(1)
    raise SystemExit("not refused")
except BackendError as error:
    assert "cuda:1 is not there; this machine has 1 NVIDIA GPU(s)" in str(error)
print("as it should be")
"""

LOST = """
import os, sys
import numpy as np
from glass_rt.backends.cuda import open_gpu
from glass_rt.backends.cuda.gpu import GpuError

gpu = open_gpu(access=sys.argv[1])
with gpu.current():
    out, stream = gpu.allocate(64), gpu.create_stream()
    kernel = gpu.load_kernel(b"image", "add")
    gpu.launch(kernel, (7, 2, 1), (256, 1, 1), (np.uint64(out.address), np.int32(40), np.int32(2)), stream)
    for call in (lambda: gpu.synchronize(stream), lambda: gpu.allocate(64)):
        try:
            call()
            raise SystemExit("not refused")
        except GpuError as error:
            assert error.lost, error
            assert "restart this process" in str(error), error
            assert "ILLEGAL_ADDRESS" in str(error) or "an illegal memory access was encountered" in str(error), error
print("as it should be", flush=True)
os._exit(0)
"""


def run_against(
    folder: Path, script: str, change: Callable[[str], str], access: str = "cuda-core"
) -> subprocess.CompletedProcess[str]:
    """Runs a script over the stand-in for the driver, compiled in `folder` after a change of its source."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    source = Path(__file__).with_name("driver_stand_in.c").read_text()
    (folder / "stand_in.c").write_text(change(source))
    flags = ["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-ldl"]
    command = ["gcc", "-w", "-o", str(folder / "libcuda.so.1"), str(folder / "stand_in.c"), *flags]
    subprocess.run(command, check=True)
    return subprocess.run(
        [sys.executable, "-c", script, access],
        capture_output=True, text=True, check=False, env={**os.environ, "LD_LIBRARY_PATH": str(folder)},
    )  # fmt: skip


def replacing(words: str, others: str) -> Callable[[str], str]:
    def change(source: str) -> str:
        assert words in source
        return source.replace(words, others)

    return change


@pytest.mark.skipif(sys.platform != "linux", reason="the stand-in is a Linux library")
@pytest.mark.parametrize("script", [SCRIPT, LOST], ids=["calls", "lost"])
@pytest.mark.parametrize(("access", "module"), [("cuda-core", "cuda.bindings.driver"), ("pycuda", "pycuda")])
def test_every_call_of_the_seam_reaches_the_driver(tmp_path: Path, access: str, module: str, script: str) -> None:
    found = importlib.util.find_spec(module.partition(".")[0])
    if found is None:
        pytest.skip(f"{access} is not installed")
    extensions = list(Path(str(found.origin)).parent.glob("_driver*.so")) if access == "pycuda" else []
    done = run_against(
        tmp_path, script, lambda source: source + "".join(others(source, each) for each in extensions), access
    )
    assert done.stdout.strip() == "as it should be", done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the stand-in is a Linux library")
@pytest.mark.parametrize(
    ("result", "words"),
    [
        (100, "does not start (cuInit: NO_DEVICE): this process sees no GPU; see CUDA_VISIBLE_DEVICES"),
        (802, "does not start (cuInit: SYSTEM_NOT_READY): GPUs joined by NVSwitch need NVIDIA's fabric manager"),
        (803, "does not start (cuInit: SYSTEM_DRIVER_MISMATCH): the kernel's module and libcuda.so.1 are of different"),
        (
            999,
            "does not start (cuInit: UNKNOWN): the kernel's module nvidia_uvm may not be loaded; nvidia-modprobe -u -c 0",
        ),
        (2, "does not start (cuInit: OUT_OF_MEMORY): nvidia-smi must list the GPU"),
    ],
)
def test_a_driver_that_does_not_start_is_not_called_missing(tmp_path: Path, result: int, words: str) -> None:
    pytest.importorskip("cuda.bindings.driver", reason="cuda-core is not installed: pip install 'glass-rt[cuda]'")
    done = run_against(tmp_path, OPEN, replacing("initialised = 1; return 0;", f"return {result};"))
    assert f"BackendError: the NVIDIA driver is installed, but {words}" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the stand-in is a Linux library")
def test_a_gpu_that_another_process_has_for_itself_is_not_called_lost(tmp_path: Path) -> None:
    pytest.importorskip("cuda.bindings.driver", reason="cuda-core is not installed: pip install 'glass-rt[cuda]'")
    done = run_against(tmp_path, OPEN, replacing("++retained; *c = &retained; return 0;", "return 46;"))
    assert "BackendError: the GPU is not available: another process has it for itself" in done.stderr
    assert "restart this process" not in done.stderr


OLD_DRIVER = """
from glass_rt.backends.cuda import open_gpu
from glass_rt.errors import BackendError

gpu = open_gpu(access="cuda-core")
with gpu.current():
    begin, end = gpu.create_event(timed=True), gpu.create_event(timed=True)
    try:
        gpu.elapsed_ms(begin, end)
        raise SystemExit("not refused")
    except BackendError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the stand-in is a Linux library")
def test_a_driver_older_than_the_bindings_is_an_error_of_ours(tmp_path: Path) -> None:
    """Times of parts need a call that the drivers before CUDA 12.8 do not have by its newest name."""
    pytest.importorskip("cuda.bindings.driver", reason="cuda-core is not installed: pip install 'glass-rt[cuda]'")

    def without_times(source: str) -> str:
        return "\n".join(line for line in source.splitlines() if "cuEventElapsedTime" not in line)

    done = run_against(tmp_path, OLD_DRIVER, without_times)
    assert "this NVIDIA driver is too old for the installed cuda-bindings" in done.stdout, done.stderr
    assert "update the driver" in done.stdout


def others(source: str, extension: Path) -> str:
    """Calls that the extension is linked to and glass-rt never makes: they refuse."""
    listing = subprocess.run(
        ["nm", "-D", "--undefined-only", str(extension)], capture_output=True, text=True, check=True
    )
    names = {line.split()[-1].partition("@")[0] for line in listing.stdout.splitlines()}
    missing = sorted(name for name in names if name.startswith("cu") and f" {name}(" not in source)
    return "".join(f"R {name}(void) {{ return 801; }}\n" for name in missing)


def test_without_a_driver_it_says_so() -> None:
    pytest.importorskip("cuda.bindings.driver", reason="cuda-core is not installed: pip install 'glass-rt[cuda]'")
    if shutil.which("nvidia-smi"):
        pytest.skip("there is a driver here")
    done = subprocess.run([sys.executable, "-c", OPEN], capture_output=True, text=True, check=False)
    assert "BackendError: no NVIDIA driver is installed" in done.stderr
