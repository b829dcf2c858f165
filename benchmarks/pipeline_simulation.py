"""How many images a second the pipeline carries between decoders and an engine that are both made of sleep.

    python benchmarks/pipeline_simulation.py [--seconds 5] [--json FILE]

Simulated are decoders of 44 ms an image (24 megapixels by simplejpeg, as measured on a server) on 16 and on 64 cores,
and an engine of 0.9 ms an image of ten crops, as ViT-B/16 would take on an H100. Threads that sleep take no core, so
two cores show what the interpreter and its lock allow; sampling, packs, head and verdicts are the product's. The limit
is the slower of the two; the target is 95 % of it. Views are part of the sleep. So it stands for views made on the
GPU: those made in memory take some hundred calls into NumPy, each of which queues for the interpreter.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter, process_time, sleep
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import click
import numpy as np

import glass_rt.inference.pipeline
from glass_rt.backends.base import Array, TensorSpec
from glass_rt.backends.embedding import INPUT, OUTPUT
from glass_rt.bundle.manifest import BundleManifest, Engine, Model, Parity, Weights
from glass_rt.image.decode import Image, ImageInfo
from glass_rt.inference.head import Head, head_shapes
from glass_rt.inference.judge import Judge
from glass_rt.inference.opened_bundle import OpenedBundle
from glass_rt.inference.pipeline import Pipeline
from glass_rt.machine.environment import cpu_name, usable_cores
from glass_rt.options import DetectOptions
from glass_rt.results.verdict import Failure

DECODE_MS, IMAGE_MS = 44.0, 0.9
CROPS, BATCH, DIM = 10, 256, 768
HEIGHT, WIDTH, SIZE = 4000, 6000, 224
CORES = (16, 64)


class SleepingEngine:
    """Engines of one device: runs take their time one after the other, and the caller is not needed for them."""

    def __init__(self, device: SleepingDevice, view_ms: float) -> None:
        self.inputs = (TensorSpec(INPUT, np.dtype(np.uint8), (None, SIZE, SIZE, 3)),)
        self.outputs = (TensorSpec(OUTPUT, np.dtype(np.float32), (None, DIM)),)
        self._device, self._view_ms = device, view_ms

    def submit(self, feeds: Mapping[str, Array]) -> Callable[[], dict[str, Array]]:
        """Starts a run; the function sleeps until it is done."""
        count = len(feeds[INPUT])
        done = self._device.work(count * self._view_ms / 1e3)

        def wait() -> dict[str, Array]:
            sleep(max(0.0, done - perf_counter()))
            return {OUTPUT: np.zeros((count, DIM), np.float32)}

        return wait

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """A run that is waited for."""
        return self.submit(feeds)()

    def close(self) -> None:
        """Nothing is open."""


class SleepingDevice:
    """When the device is free again, and how long it worked."""

    def __init__(self) -> None:
        self.busy_s = 0.0
        self._free = 0.0

    def work(self, seconds: float) -> float:
        """Queues work; when it will be done, by `perf_counter`."""
        self.busy_s += seconds
        self._free = max(self._free, perf_counter()) + seconds
        return self._free


class NoViews:
    """Packs without memory, into which nothing is written: a decoder's 44 ms hold the views."""

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An array of that shape which is one number."""
        return np.broadcast_to(np.zeros((), dtype), shape)

    def write(self, pixels: Any, boxes: Any, view: Any, crops: Any) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing is open."""


class SleepingImage:
    """An image of 24 megapixels whose decoding is sleep."""

    path, read_ms, peak_bytes, decoded_bytes, given_bytes, size_hw = "simulated.jpg", 0.0, 1, 0, 0, (HEIGHT, WIDTH)

    def __init__(self, number: int, decode_ms: float) -> None:
        self._sha256, self._decode_ms = f"{number:064x}", decode_ms

    def decode(self, _buffer: Any = None) -> Image:
        """After its time, without pixels."""
        sleep(self._decode_ms / 1e3)
        return Image(ImageInfo(WIDTH, HEIGHT, "jpeg", self._sha256), np.empty((0, 0, 3), np.uint8))


def opened(device: SleepingDevice) -> OpenedBundle:
    """GLASS on two engines of that device, under a head of small seeded numbers."""
    generator = np.random.default_rng(0)
    shapes = head_shapes("glass", DIM)
    parameters = {name: generator.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}
    model = Model(
        "simulated", "glass", "vit_b16", DIM, ("fake", "real"), SIZE, CROPS, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5),
        Weights("none", "0" * 64, trained=False),
    )  # fmt: skip
    engine = Engine("tensorrt", "fp16", "cuda", BATCH, {"global": "global.plan", "local": "local.plan"})
    manifest = BundleManifest(model, engine, Parity("passed"), 0.5, {})
    bundle: Any = SimpleNamespace(manifest=manifest, sha256="0" * 64)
    engines = {role: SleepingEngine(device, IMAGE_MS / (CROPS + 1)) for role in ("global", "local")}
    return OpenedBundle(bundle, engines, Head.for_model(model, parameters), BATCH, NoViews(), on_gpu=True)


def simulated(cores: int, seconds: float, decode_ms: float = DECODE_MS, warm_s: float = 1.0) -> dict[str, float]:
    """Images per second through the pipeline with a decoder per core but one, after `warm_s` of warming up."""
    device, workers, numbers = SleepingDevice(), cores - 1, itertools.count()
    limit = min(workers * 1e3 / decode_ms, 1e3 / IMAGE_MS)
    finished = threading.Event()
    packs: list[int] = []

    def images() -> Any:
        while not finished.is_set():
            yield SleepingImage(next(numbers), decode_ms)

    with (
        patch.object(glass_rt.inference.pipeline, "read_image", lambda source, _max_pixels: source),
        Pipeline(Judge(opened(device)), workers, lambda images, _crops, _seconds: packs.append(images)) as pipeline,
    ):
        results, count, start, busy, processor = pipeline.run(images(), DetectOptions()), 0, 0.0, 0.0, 0.0
        begin = perf_counter()
        for result in results:
            if isinstance(result, Failure):
                raise result.error
            now = perf_counter()
            if start == 0.0 and now - begin > warm_s:
                start, count, busy, processor = now, 0, device.busy_s, process_time()
                packs.clear()
            count += 1
            if start and now - start > seconds:
                break
        took = perf_counter() - start
        figures = {
            "images_per_s": count / took,
            "limit_images_per_s": limit,
            "share_of_limit": count / took / limit,
            "engine_busy": (device.busy_s - busy) / took,
            "processor_ms_an_image": (process_time() - processor) * 1e3 / count,
            "images_a_pack": float(np.mean(packs)),
        }
        finished.set()
    return figures


@click.command()
@click.option("--seconds", type=float, default=5.0, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures there.")
def main(seconds: float, json_path: Path | None) -> None:
    """Simulate 16 and 64 cores."""
    found = {str(cores): simulated(cores, seconds) for cores in CORES}
    for cores, figures in found.items():
        print(
            f"{cores} cores: {figures['images_per_s']:.0f} images/s, {figures['share_of_limit']:.1%} of the limit of "
            f"{figures['limit_images_per_s']:.0f}; engine busy {figures['engine_busy']:.1%}; "
            f"{figures['processor_ms_an_image']:.2f} ms of processor an image; {figures['images_a_pack']:.1f} a pack"
        )
    if json_path is not None:
        record = {
            "cpu": cpu_name(), "cores": usable_cores(), "load_average_of_a_minute": os.getloadavg()[0],
            "decode_ms": DECODE_MS, "image_ms": IMAGE_MS,
        }  # fmt: skip
        json_path.write_text(json.dumps({**record, "simulated": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
