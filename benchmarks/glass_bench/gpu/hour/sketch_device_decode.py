"""Step 8: a sketch of files to embeddings with decoding on the card's JPEG engines, to see where its limit lies.

One thread decodes batches, one makes views of the pixels where they lie and submits packs, one waits for them and runs
the head. Two packs are under way. Nothing of this is the product's: it is the measure of what a product could reach.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from queue import Queue
from time import perf_counter
from typing import Any

import numpy as np

from glass_bench.gpu.hour.device import is_real, open_device
from glass_bench.gpu.hour.models import local_embedder, with_fused_attention
from glass_bench.gpu.hour.no_op import opened
from glass_bench.gpu.hour.photographs import Kind, encoded, of_size, photographs
from glass_bench.gpu.hour.record import Record
from glass_bench.gpu.hour.stand_in import open_stand_in
from glass_bench.gpu.hour.step2_views import read
from glass_bench.gpu.hour.step3_backend import Small
from glass_bench.gpu.hour.step5_decode import BACKENDS, Decoder
from glass_bench.gpu.hour.step6_processor import BATCH, files_of
from glass_bench.gpu.hour.step7_end_to_end import watched
from glass_rt.backends.cuda.device_views import DeviceViews
from glass_rt.backends.cuda.gpu import DeviceBuffer, GpuDriver
from glass_rt.backends.cuda.view_kernels import ViewKernels, boxes_ltwh, filter_table
from glass_rt.backends.trt.backend import TrtBackend
from glass_rt.image.header import read_header
from glass_rt.image.sampling import Box, default_seed, stratified
from glass_rt.image.views import cut_crops
from glass_rt.inference.head import Head

AT_ONCE = 14  # images of one call: two for each of the H100's seven engines
CROPS, SIZE, RING = 10, 224, 3
STOP = None


@dataclass(frozen=True, eq=False)
class Decoded:
    """A batch on the card, and each image's windows; `place` of the ring is free again once its views are made."""

    images: Sequence[Any]
    boxes: Sequence[tuple[Box, ...]]
    place: int


class Sketch:
    """The three threads over one card."""

    def __init__(self, gpu: GpuDriver, engines: dict[str, TrtBackend], head: Head) -> None:
        self.gpu, self.engines, self.head = gpu, engines, head
        self.views = DeviceViews(open_device())
        self.decoder = Decoder(BACKENDS["HW"])
        self.decoded: Queue[Decoded | None] = Queue()
        self.packs: Queue[Any] = Queue(1)  # with the one that is waited for: two under way
        self.errors: list[BaseException] = []
        with gpu.current():
            self.stream, self.kernels = gpu.create_stream(), ViewKernels(gpu)
            self.rows, self.tables = gpu.allocate(SIZE * 10000 * 12), dict[int, DeviceBuffer]()
            self.table, self.pinned = gpu.allocate(AT_ONCE * CROPS * 16), gpu.allocate_pinned(AT_ONCE * CROPS * 16)

    def run(self, files: list[bytes], count: int) -> float:
        """Seconds for `count` images."""
        free: Queue[int] = Queue()
        for place in range(RING):
            free.put(place)
        threads = [
            threading.Thread(target=self._safely, args=(work, *arguments), daemon=True)
            for work, *arguments in ((self._decode, files, count, free), (self._submit, free))
        ]
        start = perf_counter()
        for thread in threads:
            thread.start()
        self._safely(self._conclude)
        if self.errors:
            raise self.errors[0]
        for thread in threads:
            thread.join()
        return perf_counter() - start

    def _safely(self, work: Any, *arguments: Any) -> None:
        try:
            work(*arguments)
        except BaseException as error:
            self.errors.append(error)
            self.decoded.put(STOP)
            self.packs.put(STOP)

    def _decode(self, files: list[bytes], count: int, free: Queue[int]) -> None:
        rings: list[list[Any] | None] = [None] * RING
        with ThreadPoolExecutor(4) as pool:
            turns = cycle(files)
            for begin in range(0, count, AT_ONCE):
                batch = list(islice(turns, min(AT_ONCE, count - begin)))
                boxes = pool.map(windows, batch)
                place = free.get()
                images = self.decoder.images(batch, (rings[place] or [])[: len(batch)] or None)
                assert all(image is not None for image in images)
                rings[place] = images if len(images) == AT_ONCE else rings[place]
                self.decoded.put(Decoded(images, list(boxes), place))
        self.decoded.put(STOP)

    def _submit(self, free: Queue[int]) -> None:
        while (batch := self.decoded.get()) is not STOP:
            wholes: Any = self.views.empty((len(batch.images), SIZE, SIZE, 3), np.float32)
            crops: Any = self.views.empty((len(batch.images) * CROPS, SIZE, SIZE, 3), np.uint8)
            self.make_views(batch, wholes, crops)
            free.put(batch.place)
            waits = [self.engines["global"].submit({"pixels": wholes}), self.engines["local"].submit({"pixels": crops})]
            self.packs.put((waits, len(batch.images)))
        self.packs.put(STOP)

    def make_views(self, batch: Decoded, wholes: Any, crops: Any) -> None:
        """By our kernels from the decoder's pixels; they are there when this returns."""
        gpu, stream = self.gpu, self.stream
        with gpu.current():
            table = np.concatenate([boxes_ltwh(boxes) for boxes in batch.boxes]).reshape(-1).view(np.uint8)
            self.pinned.array[: len(table)] = table
            gpu.copy_in(self.table.address, self.pinned.array[: len(table)], stream)
            for index, image in enumerate(batch.images):
                told = image.__cuda_array_interface__
                height, width, _ = told["shape"]
                assert told.get("strides") in (None, (width * 3, 3, 1)), told
                pixels = DeviceBuffer(told["data"][0], height * width * 3)
                boxes = DeviceBuffer(self.table.address + index * CROPS * 16, CROPS * 16)
                taps = self.filter_on_device(height), self.filter_on_device(width)
                self.kernels.global_view(pixels, width, SIZE, taps, self.rows, wholes[index].address, stream)
                self.kernels.crops(pixels, width, boxes, CROPS, SIZE, crops[index * CROPS].address, stream)
            gpu.synchronize(stream)

    def filter_on_device(self, length: int) -> DeviceBuffer:
        """The table of an axis, copied there once: photographs are of few sizes."""
        if length not in self.tables:
            table = filter_table(length, SIZE)
            self.tables[length] = self.gpu.allocate(table.nbytes)
            self.gpu.copy_in(self.tables[length].address, table.view(np.uint8), self.stream)
        return self.tables[length]

    def _conclude(self) -> None:
        while (pack := self.packs.get()) is not STOP:
            waits, count = pack
            wholes, crops = (wait()["embedding"] for wait in waits)
            for index in range(count):
                self.head.judge(wholes[index], crops[index * CROPS : (index + 1) * CROPS])


def windows(data: bytes) -> tuple[Box, ...]:
    """As the product draws them, from the file's SHA-256."""
    header = read_header(data)
    return stratified(header.height, header.width, CROPS, default_seed(hashlib.sha256(data).hexdigest()), SIZE).boxes


def same_crops(sketch: Sketch, data: bytes) -> bool:
    """Whether crops cut on the card are those cut from the same pixels on the host."""
    images = sketch.decoder.images([data])
    wholes, crops = (
        sketch.views.empty((1, SIZE, SIZE, 3), np.float32),
        sketch.views.empty((CROPS, SIZE, SIZE, 3), np.uint8),
    )
    sketch.make_views(Decoded(images, [windows(data)], 0), wholes, crops)
    expected = np.empty((CROPS, SIZE, SIZE, 3), np.uint8)
    cut_crops(np.asarray(images[0].cpu()), windows(data), expected)
    return bool((read(sketch.gpu, crops) == expected).all())


def through(sketch: Sketch, files: list[bytes], count: int) -> dict[str, Any]:
    """Images per second after a warm-up, and the card's share of the time."""
    found: dict[str, Any] = {"crops_equal": same_crops(sketch, files[0])}
    sketch.run(files, 6 * AT_ONCE)
    with watched(found):
        seconds = sketch.run(files, count)
    return {**found, "images": count, "seconds": round(seconds, 2), "images_per_s": round(count / seconds, 1)}


def main(output: str, scale: float) -> None:
    """Writes the step's figures to `output`."""
    record = Record(Path(output))
    if not is_real():
        record.add("left out", "there is no GPU: " + str(len(windows(files_of("12 MP", scale)[0]))))
        return
    dim = 768
    with tempfile.TemporaryDirectory() as place:
        graph = with_fused_attention(local_embedder("vit_b16")) if scale >= 1 else Small(dim)
        engines = {
            role: open_stand_in(Path(place), open_device(), graph, dim, dtype=dtype)
            for role, dtype in (("global", "float32"), ("local", "uint8"))
        }
        for role, dtype in (("global", np.float32), ("local", np.uint8)):
            for bucket in engines[role].buckets:
                for _ in range(4):
                    engines[role].run({"pixels": np.zeros((bucket.size, SIZE, SIZE, 3), dtype)})
        head = opened({}, BATCH, dim).head
        sketch = Sketch(open_device(), engines, head)
        medium = [encoded(of_size(pixels, 1500, 2000), Kind()) for pixels in photographs()[:4]]
        for name, files, count in (
            ("24 MP", files_of("24 MP", scale), 2100), ("12 MP", files_of("12 MP", scale), 3500),
            ("3 MP", medium, 4200),
        ):  # fmt: skip
            record.part(name, lambda f=files, c=count: through(sketch, f, c))  # type: ignore[misc]


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
