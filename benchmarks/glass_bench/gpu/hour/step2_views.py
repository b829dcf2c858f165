"""Step 2: the view kernels against views made in memory: their numbers, their times, and many threads."""
# ruff: noqa: B023  # what is timed in a loop is called before the loop goes on

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

import glass_rt.backends.cuda
from glass_bench.gpu.hour.device import is_real, open_device
from glass_bench.gpu.hour.measure import Spread, event_ms, gb_per_s, host_ms, rate_per_s
from glass_bench.gpu.hour.record import LeftOut, Record
from glass_rt.backends.cuda.device_views import DeviceViews
from glass_rt.backends.cuda.gpu import GpuDriver
from glass_rt.backends.cuda.view_kernels import ViewKernels, boxes_ltwh, filter_table
from glass_rt.image.sampling import stratified
from glass_rt.image.views import HostViews

SIZE, CROPS = 224, 10
TOOLS = ("memcheck", "racecheck", "initcheck")  # of compute-sanitizer
SMS = (75, 80, 86, 87, 89, 90, 100, 103, 110, 120)  # as `make kernels`
SHAPES = (  # height, width: flat, smaller than a crop, exactly one, ordinary, 12, 24 and 200 MP either way
    (64, 900), (180, 300), (224, 224), (900, 1200), (3000, 4000), (4000, 6000), (10000, 20000), (20000, 10000),
)  # fmt: skip
REPEATS = 20  # of a kernel
TIMED = ((3000, 4000), (4000, 6000), (10000, 20000))
MEGAPIXELS = {"12 MP": (3000, 4000), "24 MP": (4000, 6000)}


def picture(height: int, width: int) -> NDArray[np.uint8]:
    """Noise under a slope, unlike itself anywhere near: a patch of noise repeated, and a slope added modulo 256."""
    noise = np.random.default_rng(height).integers(0, 256, (min(height, 997), min(width, 1499), 3), dtype=np.uint8)
    rows, columns = -(-height // noise.shape[0]), -(-width // noise.shape[1])
    whole = np.ascontiguousarray(np.tile(noise, (rows, columns, 1))[:height, :width])
    slope = (np.arange(width, dtype=np.uint32) * 256 // width).astype(np.uint8)[None, :, None]
    whole += slope + (np.arange(height, dtype=np.uint32) * 101 // 256).astype(np.uint8)[:, None, None]
    return whole


def read(gpu: GpuDriver, array: Any) -> NDArray[Any]:
    """A device array, copied out."""
    with gpu.current():
        stream, pinned = gpu.create_stream(), gpu.allocate_pinned(array.nbytes)
        gpu.copy_out(pinned.array[: array.nbytes], array.address, stream)
        gpu.synchronize(stream)
        found: NDArray[Any] = pinned.array[: array.nbytes].view(array.dtype).reshape(array.shape).copy()
        gpu.free(pinned)
        gpu.destroy_stream(stream)
    return found


def compared(shapes: tuple[tuple[int, int], ...]) -> dict[str, Any]:
    """Per shape: largest difference of the global view in levels of 255, and bytes of the crops that differ."""
    gpu = open_device()
    views, memory = DeviceViews(gpu), HostViews()
    kinds: tuple[Any, ...] = (views, memory)
    found: dict[str, Any] = {}
    for height, width in shapes:
        pixels = picture(height, width)
        boxes = stratified(height, width, CROPS, 606, SIZE).boxes
        pairs = []
        start = perf_counter()
        for kind in kinds:
            wholes, crops = kind.empty((2, SIZE, SIZE, 3), np.float32), kind.empty((CROPS + 2, SIZE, SIZE, 3), np.uint8)
            kind.write(pixels, boxes, wholes[1], crops[1 : CROPS + 1])
            pairs.append((wholes[1:2], crops[1 : CROPS + 1], crops))
        (device_whole, device_crops, all_crops), (whole, crops, _) = pairs
        difference = np.abs(read(gpu, device_whole) - whole)
        order = [3, 1, 7]
        found[f"{height} x {width}"] = {
            "global_view_max_levels": float(difference.max()), "global_view_mean_levels": float(difference.mean()),
            "crop_bytes_that_differ": int((read(gpu, device_crops) != crops).sum()),
            "gathered_bytes_that_differ": int((read(gpu, all_crops[1 : CROPS + 1][order]) != crops[order]).sum()),
            "seconds": round(perf_counter() - start, 2),
        }  # fmt: skip
    views.close()
    return found


def kernel_times(scale: float) -> dict[str, Any]:
    """Milliseconds of each kernel and copy by events, and what of the image's bytes that is per second."""
    gpu, found = open_device(), dict[str, Any]()
    with gpu.current():
        stream, kernels = gpu.create_stream(), ViewKernels(gpu)
        for height, width in TIMED:
            height, width = max(256, int(height * scale)), max(256, int(width * scale))
            with ExitStack() as buffers:
                found[f"{height} x {width}"] = _times_of_one(gpu, stream, kernels, height, width, buffers)
    gpu.close()
    return found


def _times_of_one(
    gpu: GpuDriver, stream: int, kernels: ViewKernels, height: int, width: int, buffers: ExitStack
) -> dict[str, Any]:
    """The figures of one size of image; what it allocates is freed with `buffers`."""
    pixels = picture(height, width)
    table = boxes_ltwh(stratified(height, width, CROPS, 606, SIZE).boxes)
    tables = [filter_table(length, SIZE) for length in (height, width)]
    sizes = (
        pixels.nbytes,
        table.nbytes,
        SIZE * width * 12,
        CROPS * SIZE * SIZE * 12,
        *(taps.nbytes for taps in tables),
    )
    image, boxes, rows, out, *taps = [gpu.allocate(nbytes) for nbytes in sizes]
    for buffer in (image, boxes, rows, out, *taps):
        buffers.callback(gpu.free, buffer)
    pinned = gpu.allocate_pinned(pixels.nbytes)
    buffers.callback(gpu.free, pinned)

    staging = host_ms(lambda: np.copyto(pinned.array, pixels.reshape(-1)), 3)
    copy = event_ms(gpu, stream, lambda: gpu.copy_in(image.address, pinned.array, stream), 10)
    gpu.copy_in(boxes.address, table.reshape(-1).view(np.uint8), stream)
    for target, weights in zip(taps, tables, strict=True):
        gpu.copy_in(target.address, weights.view(np.uint8), stream)

    def timed(kernel: Any, grid: tuple[int, int, int], source: int, weights: int, target: int) -> Spread:
        given = (np.uint64(source), np.int32(width), np.int32(SIZE), np.uint64(weights), np.uint64(target))
        return event_ms(gpu, stream, lambda: gpu.launch(kernel, grid, (256, 1, 1), given, stream), REPEATS)

    by_rows = timed(kernels._rows, (-(-width * 3 // 256), SIZE, 1), image.address, taps[0].address, rows.address)
    by_columns = timed(kernels._columns, (-(-SIZE * 3 // 256), SIZE, 1), rows.address, taps[1].address, out.address)
    gather = event_ms(
        gpu, stream, lambda: kernels.crops(image, width, boxes, CROPS, SIZE, out.address, stream), REPEATS
    )
    return {
        "reduce_rows_ms": by_rows, "reduce_columns_ms": by_columns, "gather_crops_ms": gather,
        "copy_in_ms": copy, "staging_ms": staging, "image_mb": round(pixels.nbytes / 1e6, 1),
        "copy_in_gb_per_s": gb_per_s(pixels.nbytes, copy.median),
        "staging_gb_per_s": gb_per_s(pixels.nbytes, staging.median),
        "reduce_rows_gb_per_s_of_image": gb_per_s(pixels.nbytes, by_rows.median),
    }  # fmt: skip


def throughput(scale: float) -> dict[str, Any]:
    """Images per second of `write` by 1, 4 and 16 threads, on the device and in memory."""
    from glass_rt.machine.blas import single_threaded_blas

    found: dict[str, Any] = {}
    for name, (height, width) in MEGAPIXELS.items():
        pixels = picture(max(256, int(height * scale)), max(256, int(width * scale)))
        boxes = stratified(pixels.shape[0], pixels.shape[1], CROPS, 606, SIZE).boxes
        for kind in ("device", "memory"):
            views: Any = DeviceViews(open_device()) if kind == "device" else HostViews()
            with single_threaded_blas():
                for threads in (1, 4, 16) if is_real() else (1,):
                    places = [
                        (views.empty((1, SIZE, SIZE, 3), np.float32), views.empty((CROPS, SIZE, SIZE, 3), np.uint8))
                        for _ in range(threads)
                    ]

                    def work(thread: int) -> None:
                        wholes, crops = places[thread]
                        views.write(pixels, boxes, wholes[0], crops)

                    found[f"{name}, {kind}, {threads} threads, images_per_s"] = rate_per_s(work, threads, 1.2 * scale)
            views.close()
    return found


def sanitized(tool: str, scale: float) -> dict[str, Any]:
    """The small shapes under compute-sanitizer; its last lines hold its count of errors."""
    if shutil.which("compute-sanitizer") is None:
        raise LeftOut("compute-sanitizer is not installed")
    start = perf_counter()
    step = [sys.executable, "-m", "glass_bench.gpu.step", __name__, os.devnull, str(scale), "small"]
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", *step]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=40 if is_real() else None)
    except subprocess.TimeoutExpired as error:
        return {
            "ended": "stopped after 40 s",
            "printed": (error.stdout or b"").decode(errors="replace").splitlines()[-5:],
        }
    lines = (done.stdout + done.stderr).strip().splitlines()
    summary = next((line for line in reversed(lines) if "SUMMARY:" in line), "")
    return {
        "ended": done.returncode, "seconds": round(perf_counter() - start, 1), "summary": summary,
        "last_lines": lines[-6:],
    }  # fmt: skip


def compiled() -> dict[str, Any]:
    """The shipped fatbin against one made here of the same source."""
    if shutil.which("nvcc") is None:
        raise LeftOut("nvcc is not installed")
    kernels = Path(str(glass_rt.backends.cuda.__file__)).parent / "kernels"
    targets = [f"-gencode=arch=compute_{sm},code=sm_{sm}" for sm in SMS]
    targets += [f"-gencode=arch=compute_{sm},code=compute_{sm}" for sm in (SMS[0], SMS[-1])]
    start = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "views.fatbin"
        done = subprocess.run(
            ["nvcc", "-O3", "-fatbin", *targets, "-o", str(made), "views.cu"],
            cwd=kernels, capture_output=True, text=True, check=False,
        )  # fmt: skip
        same = made.exists() and made.read_bytes() == (kernels / "views.fatbin").read_bytes()
    return {"same_bytes": same, "seconds": round(perf_counter() - start, 1), "words": done.stderr.splitlines()[-3:]}


def main(output: str, scale: float, what: str = "kernels") -> None:
    """Writes the step's figures to `output`; `small` prints them instead, for the sanitizer to watch."""
    if what == "small":
        print(compared(SHAPES[:4]))
        return
    record = Record(Path(output))
    if what == "sanitizer":
        record.part("compiled", compiled)
        for tool in TOOLS if scale >= 1 else TOOLS[:1]:
            record.part(tool, lambda tool=tool: sanitized(tool, scale))  # type: ignore[misc]
        return
    shapes = SHAPES if scale >= 1 else SHAPES[:4]
    record.part("compared", lambda: compared(shapes))
    record.part("kernel_times", lambda: kernel_times(scale))
    record.part("throughput", lambda: throughput(scale))
