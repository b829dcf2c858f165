"""Step 6: the host's side. What decoders reach with all cores, and how much of it the pipeline lets through."""
# ruff: noqa: B023  # what is timed in a loop is called before the loop goes on

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import glass_rt.image.decode
import glass_rt.inference.decoding_room
from glass_bench.gpu.hour.device import is_real
from glass_bench.gpu.hour.measure import host_ms, rate_per_s
from glass_bench.gpu.hour.no_op import NoOpBackend, opened
from glass_bench.gpu.hour.photographs import SIZES, Kind, decoded, encoded, of_size, photographs
from glass_bench.gpu.hour.record import Record
from glass_rt.image.buffer import PixelBuffer
from glass_rt.image.encoded import load
from glass_rt.image.header import read_header
from glass_rt.image.sampling import stratified
from glass_rt.image.views import HostViews
from glass_rt.inference.judge import Judge
from glass_rt.inference.opened_bundle import OpenedBundle
from glass_rt.inference.pipeline import Pipeline
from glass_rt.machine.blas import single_threaded_blas
from glass_rt.options import DetectOptions

BATCH = 64
BUDGETS = {"600 MB": 600_000_000, "4 GB": 4_000_000_000}


def files_of(size_name: str, scale: float, kind: Kind = Kind()) -> list[bytes]:  # noqa: B008  # frozen
    """The photographs at that size."""
    size = SIZES[size_name] if scale >= 1 else (600, 800)
    return [encoded(of_size(pixels, *size), kind) for pixels in photographs()[:4]]


@contextmanager
def budget(nbytes: int) -> Iterator[None]:
    """The pipeline's bound on what its decoders hold."""
    before = glass_rt.inference.decoding_room.decoding_budget
    glass_rt.inference.decoding_room.decoding_budget = lambda max_pixels, gpu_workers=0: nbytes
    try:
        yield
    finally:
        glass_rt.inference.decoding_room.decoding_budget = before


@contextmanager
def opencv_alone() -> Iterator[None]:
    """As if simplejpeg were not installed, which is an extra."""
    module: Any = glass_rt.image.decode
    before, module.simplejpeg = module.simplejpeg, None
    try:
        yield
    finally:
        module.simplejpeg = before


def decoders(scale: float) -> dict[str, Any]:
    """Images per second: OpenCV, simplejpeg, and our `decode` (with SHA-256 and a buffer) by 1, 8 and 16 threads."""
    simplejpeg = _simplejpeg()
    own = threading.local()

    def by_simplejpeg(data: bytes) -> Any:
        return simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False)

    def by_ours(data: bytes) -> Any:
        if not hasattr(own, "buffer"):
            own.buffer = PixelBuffer()
        return load(data, buffer=own.buffer)

    found: dict[str, Any] = {}
    for size_name in SIZES:
        files = files_of(size_name, scale)
        ways: dict[str, Callable[[bytes], Any]] = {"opencv": decoded_rgb, "ours": by_ours}
        if simplejpeg is not None:
            found[f"{size_name}, equal pixels"] = bool(np.array_equal(decoded(files[0]), by_simplejpeg(files[0])))
            ways["simplejpeg"] = by_simplejpeg
        for name, way in ways.items():
            for threads in (1, 8, 16) if is_real() else (1, 2):
                turns = [
                    cycle(files[thread % len(files) :] + files[: thread % len(files)]) for thread in range(threads)
                ]
                found[f"{size_name}, {name}, {threads} threads, images_per_s"] = rate_per_s(
                    lambda thread: way(next(turns[thread])),
                    threads,
                    0.8 * scale,
                )
    return found


def _simplejpeg() -> Any:
    """The library, which is an extra, or None."""
    module: Any = glass_rt.image.decode
    return module.simplejpeg


def decoded_rgb(data: bytes) -> Any:
    """As the project asks OpenCV."""
    return glass_rt.image.decode._decode_opencv(data, read_header(data))


def parts(scale: float) -> dict[str, Any]:
    """Milliseconds of one image's parts on one thread."""
    found: dict[str, Any] = {}
    with single_threaded_blas():
        for size_name in SIZES:
            data = files_of(size_name, scale)[0]
            pixels, views = decoded(data), HostViews()
            boxes = stratified(pixels.shape[0], pixels.shape[1], 10, 606, 224).boxes
            whole, crops = np.empty((224, 224, 3), np.float32), np.empty((10, 224, 224, 3), np.uint8)
            found[size_name] = {
                "decode_ms": host_ms(lambda: load(data), 3),
                "sha256_ms": host_ms(lambda: hashlib.sha256(data).hexdigest(), 3),
                "views_ms": host_ms(lambda: views.write(pixels, boxes, whole, crops), 3),
                "file_mb": round(len(data) / 1e6, 2),
            }
    return found


def images_per_s(files: list[bytes], by: OpenedBundle, workers: int, count: int) -> dict[str, Any]:
    """`count` images through a pipeline, after some that warm it up."""
    packs: list[tuple[int, float]] = []
    with Pipeline(Judge(by), workers, lambda images, _crops, s: packs.append((images, s))) as pipeline:
        for result in pipeline.run(islice(cycle(files), min(count, 3 * workers)), DetectOptions()):
            _check(result)
        packs.clear()
        start = perf_counter()
        for result in pipeline.run(islice(cycle(files), count), DetectOptions()):
            _check(result)
        seconds = perf_counter() - start
    judged_s = sum(s for _, s in packs)
    return {
        "images_per_s": round(count / seconds, 1), "images": count, "seconds": round(seconds, 2), "packs": len(packs),
        "images_per_pack": round(count / max(1, len(packs)), 1),
        "judging_share_of_the_time": round(judged_s / seconds, 3),
    }  # fmt: skip


def _check(result: Any) -> None:
    if not hasattr(result, "label"):
        raise RuntimeError(f"an image failed: {result}")


def pipelines(record: Record, scale: float) -> None:
    """The pipeline over engines that do nothing, by workers, budget and decoder."""
    no_ops = opened({"global": NoOpBackend(768, np.float32), "local": NoOpBackend(768, np.uint8)}, BATCH)
    for size_name in ("24 MP", "12 MP"):
        files = files_of(size_name, scale)
        count = (200 if size_name == "12 MP" else 110) if scale >= 1 else 10
        both = ("simplejpeg", "opencv") if _simplejpeg() is not None else ("opencv",)
        for decoder in both if size_name == "24 MP" else both[:1]:
            for budget_name, nbytes in BUDGETS.items() if scale >= 1 else tuple(BUDGETS.items())[:1]:
                for workers in (8, 16) if scale >= 1 else (2,):

                    def work(
                        n: int = nbytes, w: int = workers, d: str = decoder, f: list[bytes] = files, c: int = count
                    ) -> Any:
                        with budget(n):
                            if d == "opencv":
                                with opencv_alone():
                                    return images_per_s(f, no_ops, w, c)
                            return images_per_s(f, no_ops, w, c)

                    record.part(f"pipeline, {size_name}, {decoder}, {budget_name}, {workers} workers", work)


SCALING = """
import json, sys
import numpy as np
import glass_rt.image.resize as resize
from glass_bench.gpu.hour.measure import rate_per_s
from glass_bench.gpu.hour.step2_views import picture
from glass_rt.machine.blas import single_threaded_blas
from glass_rt.image.sampling import stratified
from glass_rt.image.views import HostViews, cut_crops
from glass_rt.machine.malloc import give_back_large_arrays

height, width, seconds, counts, variant = json.loads(sys.argv[1])
if variant == "as glass-rt's own processes":
    give_back_large_arrays()
if variant == "all rows at once":
    resize.FEWEST_ROWS = 224
if variant == "short turns":
    sys.setswitchinterval(1e-4)
pixels, views = picture(height, width), HostViews()
boxes = stratified(height, width, 10, 606, 224).boxes
def work(thread):
    whole, crops = np.empty((224, 224, 3), np.float32), np.empty((10, 224, 224, 3), np.uint8)
    if variant == "crops alone":
        cut_crops(pixels, boxes, crops)
    elif variant == "rows alone":
        for _ in resize._row_blocks(pixels.reshape(height, width * 3), 224):
            pass
    else:
        views.write(pixels, boxes, whole, crops)
with single_threaded_blas():
    print(json.dumps({count: rate_per_s(work, count, seconds) for count in counts}))
"""
KEEP = "glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=17179869184:glibc.malloc.top_pad=67108864"


def scaling(record: Record, scale: float) -> None:
    """Views in memory, images per second by threads: what holds them back? One setting at a time, each in a process."""
    variants: tuple[tuple[str, dict[str, str]], ...] = (
        ("default", {}), ("one BLAS thread by environment", {"OPENBLAS_NUM_THREADS": "1"}),
        ("as glass-rt's own processes", {}), ("malloc keeps everything", {"GLIBC_TUNABLES": KEEP}),
        ("all rows at once", {}), ("short turns", {}), ("rows alone", {}), ("crops alone", {}),
    )  # fmt: skip
    height, width = (4000, 6000) if scale >= 1 else (600, 800)
    counts = (1, 4, 16) if is_real() else (1, 2)
    for variant, environment in variants if scale >= 1 else variants[:1]:
        arguments = json.dumps([height, width, 0.7 * scale, counts, variant])
        record.part(variant, lambda a=arguments, e=environment: _printed(_started(a, e)))  # type: ignore[misc]
    alone = json.dumps([height, width, 0.7 * scale, [1], "default"])

    def processes() -> float:
        running = [_started(alone, {"OPENBLAS_NUM_THREADS": "1"}) for _ in range(counts[-1])]
        return round(float(sum(_printed(process)["1"] for process in running)), 1)

    record.part(f"{counts[-1]} processes of one thread, sum", processes)


def _started(arguments: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCALING, arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment},
    )  # fmt: skip


def _printed(process: subprocess.Popen[str]) -> Any:
    printed, words = process.communicate(timeout=30)
    if process.returncode:
        raise RuntimeError(words[-500:])
    return json.loads(printed)


def main(output: str, scale: float, what: str = "pipelines") -> None:
    """Writes the step's figures to `output`."""
    record = Record(Path(output))
    if what == "decoders":
        record.part("decoders", lambda: decoders(scale))
    elif what == "scaling":
        scaling(record, scale)
    else:
        record.part("parts", lambda: parts(scale))
        pipelines(record, scale)
