"""The kernels compile, the fatbin that is shipped is theirs, and their arithmetic is the runtime's.

There is no GPU: the very source is compiled for the CPU, with CUDA's words defined away, and every thread is a call.
"""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import glass_rt.backends.cuda
from glass_rt.backends.cuda import view_kernels
from glass_rt.backends.cuda.gpu import GpuOutOfMemory
from glass_rt.backends.cuda.nvrtc import compiled_from_source
from glass_rt.backends.cuda.view_kernels import REFUSED, ViewKernels, boxes_ltwh, filter_table
from glass_rt.errors import BackendError, MissingDependency
from glass_rt.image.resize import filter_taps, resize_antialiased
from glass_rt.image.sampling import stratified
from glass_rt.image.views import cut_crops
from tests.fake_gpu import FakeGpu

KERNELS = Path(str(glass_rt.backends.cuda.__file__)).parent / "kernels"
# T4, A100, A10, Orin, L4, H100, B200, B300, Thor, RTX 50
SMS = ("7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "10.3", "11.0", "12.0")
FLAGS = [
    *("-gencode=arch=compute_{0},code=sm_{0}".format(sm.replace(".", "")) for sm in SMS),
    *(f"-gencode=arch=compute_{sm},code=compute_{sm}" for sm in (75, 120)),
]
NAMES = (b"gather_crops", b"reduce_rows", b"reduce_columns")


def pointer(array: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


@pytest.mark.parametrize(("height", "width"), [(500, 700), (224, 224), (100, 90), (64, 900), (1801, 1203)])
def test_the_global_view_is_the_runtimes(host: Any, height: int, width: int) -> None:
    size = 224 if height > 64 else 32
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    rows, view = np.empty((size, width, 3), np.float32), np.empty((size, size, 3), np.float32)
    of_rows, of_columns = filter_table(height, size), filter_table(width, size)
    host.rows(-(-width * 3 // 256), size, pointer(pixels), width, size, pointer(of_rows), pointer(rows))
    host.columns(-(-size * 3 // 256), size, pointer(rows), width, size, pointer(of_columns), pointer(view))
    assert np.abs(view - resize_antialiased(pixels, size)).max() < 0.01  # levels of 255; FP16 rounds by 0.06


@pytest.mark.parametrize(("height", "width"), [(500, 700), (100, 90)])
def test_the_crops_are_the_runtimes(host: Any, height: int, width: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    boxes = stratified(height, width, 5, 606, 224).boxes
    expected, found = np.empty((5, 224, 224, 3), np.uint8), np.full((5, 224, 224, 3), 77, np.uint8)
    cut_crops(pixels, boxes, expected)
    table = boxes_ltwh(boxes)
    host.crops(-(-224 * 224 * 3 // 256), 5, pointer(pixels), width, pointer(table), 224, pointer(found))
    np.testing.assert_array_equal(found, expected)


def test_the_fatbin_is_made_of_the_source(tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not installed")
    version = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    target = tmp_path / "views.fatbin"
    subprocess.run([nvcc, "-O3", "-fatbin", *FLAGS, "-o", target, "views.cu"], check=True, cwd=KERNELS)
    shipped = (KERNELS / "views.fatbin").read_bytes()
    if "V13.0.88" not in version:
        pytest.skip("another nvcc than the one that made the fatbin; it compiles")
    assert target.read_bytes() == shipped


def test_the_fatbin_has_code_for_every_architecture_that_it_is_made_for() -> None:
    """Entries of a fatbin: kind (1: PTX, 2: code), length of the entry's header and of what follows, architecture."""
    shipped, found, place = (KERNELS / "views.fatbin").read_bytes(), dict[int, list[int]](), 16
    while place < len(shipped):
        kind, _, header, size = struct.unpack_from("<HHIQ", shipped, place)
        found.setdefault(kind, []).append(*struct.unpack_from("<I", shipped, place + 28))
        place += header + size
    assert found[2] == [int(sm.replace(".", "")) for sm in SMS]
    assert found[1] == [75, 120], "for later cards of both kinds"


def test_launches_cover_every_cell() -> None:
    launches = []

    class Recording(FakeGpu):
        def launch(self, kernel: Any, grid: Any, block: Any, arguments: Any, stream: int) -> None:
            launches.append((kernel, grid, [type(argument).__name__ for argument in arguments]))

    gpu = Recording()
    with gpu.current():
        kernels, image = ViewKernels(gpu), gpu.allocate(1000 * 800 * 3)
        boxes, rows, out = gpu.allocate(160), gpu.allocate(224 * 800 * 12), gpu.allocate(1 << 22)
        taps = gpu.allocate(filter_table(1000, 224).nbytes), gpu.allocate(filter_table(800, 224).nbytes)
        kernels.crops(image, 800, boxes, 10, 224, out.address, 0)
        kernels.global_view(image, 800, 224, taps, rows, out.address, 0)
    assert launches == [
        ("gather_crops", (588, 10, 1), ["uint64", "int32", "uint64", "int32", "uint64"]),
        ("reduce_rows", (10, 224, 1), ["uint64", "int32", "int32", "uint64", "uint64"]),
        ("reduce_columns", (3, 224, 1), ["uint64", "int32", "int32", "uint64", "uint64"]),
    ]


@pytest.mark.parametrize(("length", "size"), [(6000, 224), (225, 224), (90, 224), (1, 8)])
def test_the_table_holds_the_filter_and_its_weights_sum_to_one(length: int, size: int) -> None:
    table = filter_table(length, size)
    taps, weights = table[: 3 * size].reshape(size, 3), table[3 * size :].view(np.float32)
    assert [(first, count) for first, count, _ in taps.tolist()] == [(a, len(b)) for a, b in filter_taps(length, size)]
    sums = [weights[place : place + count].sum(dtype=np.float64) for _, count, place in taps]
    np.testing.assert_allclose(sums, 1.0, atol=1e-6)


def test_the_kernels_compute_nothing_in_double() -> None:
    """Desktop cards have one unit of double for 64 of float."""
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-core is not installed")
    try:
        _, program = nvrtc.nvrtcCreateProgram((KERNELS / "views.cu").read_bytes(), b"views.cu", 0, [], [])
    except RuntimeError as error:
        pytest.skip(f"NVRTC is not installed: {error}")
    assert nvrtc.nvrtcCompileProgram(program, 1, [b"--gpu-architecture=compute_75"]) == (0,)
    content = bytes(nvrtc.nvrtcGetPTXSize(program)[1])
    nvrtc.nvrtcGetPTX(program, content)
    nvrtc.nvrtcDestroyProgram(program)
    assert b"fma.rn.f32" in content
    assert b".f64" not in content


@pytest.mark.parametrize("sm", [*SMS, "12.1"])
def test_the_source_compiles_where_it_is_used(sm: str) -> None:
    """By the real compiler, which needs no GPU."""
    pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-core is not installed")
    source = (KERNELS / "views.cu").read_bytes()
    try:
        image = compiled_from_source(source, sm)
    except MissingDependency as error:
        pytest.skip(str(error))
    assert image.startswith(b"\x7fELF")
    assert all(name in image for name in NAMES)
    with pytest.raises(BackendError, match="NVRTC cannot compile the view kernels for SM"):
        compiled_from_source(source.replace(b"blockIdx", b"blockIdy"), sm)


def test_the_sentences_are_cudas_own() -> None:
    """Its runtime has the driver's numbers and sentences for these errors, and needs no GPU to tell them."""
    nvidia = importlib.util.find_spec("nvidia")
    places = list(nvidia.submodule_search_locations or ()) if nvidia else []
    files = [file for place in places for file in Path(place).glob("*/lib/libcudart.so*")]
    if not files:
        pytest.skip("CUDA's runtime is not installed")
    runtime = ctypes.CDLL(str(files[0]))
    runtime.cudaGetErrorString.restype = ctypes.c_char_p
    numbers = (209, 200, 222, 218)  # no code for this GPU, an invalid image, PTX too new, PTX refused
    assert [runtime.cudaGetErrorString(number).decode() for number in numbers] == list(REFUSED[1::2])


@pytest.mark.parametrize("status", REFUSED)
def test_a_gpu_that_refuses_the_shipped_kernels_gets_its_own(monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    images: list[bytes] = []

    class Recording(FakeGpu):
        def load_kernel(self, image: bytes, name: str) -> Any:
            images.append(image)
            return super().load_kernel(image, name)

    monkeypatch.setattr(view_kernels, "compiled_from_source", lambda source, sm: b"for SM " + sm.encode())
    gpu = Recording()
    gpu.fail("load_kernel", status, after=1)
    with gpu.current():
        ViewKernels(gpu)
    assert images[2:] == [b"for SM 8.9"] * 3
    gpu.fail("load_kernel", "OUT_OF_MEMORY")
    with gpu.current(), pytest.raises(GpuOutOfMemory):
        ViewKernels(gpu)
