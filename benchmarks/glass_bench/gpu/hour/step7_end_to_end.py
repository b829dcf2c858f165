"""Step 7: files to verdicts: host decoding, views in memory or on the card, torch engines. How busy is the card?"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from glass_bench.gpu.hour.device import is_real, open_device
from glass_bench.gpu.hour.models import local_embedder, with_fused_attention
from glass_bench.gpu.hour.no_op import opened
from glass_bench.gpu.hour.photographs import Kind, encoded, of_size, photographs
from glass_bench.gpu.hour.record import Record
from glass_bench.gpu.hour.stand_in import open_stand_in
from glass_bench.gpu.hour.step3_backend import Small
from glass_bench.gpu.hour.step6_processor import BATCH, budget, files_of, images_per_s
from glass_rt.backends.cuda.device_views import DeviceViews
from glass_rt.image.views import HostViews
from glass_rt.inference.judge import Judge
from glass_rt.inference.opened_bundle import OpenedBundle
from glass_rt.inference.pipeline import judge_one
from glass_rt.options import DetectOptions


@contextmanager
def watched(found: dict[str, Any]) -> Iterator[None]:
    """Puts into `found` what nvidia-smi saw once a second: share of time in which a kernel ran."""
    if not is_real():
        yield
        return
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(["nvidia-smi", "dmon", "-s", "u", "-d", "1"], stdout=out, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            process.terminate()
            process.wait()
            out.seek(0)
            rows = [line.split() for line in out if line.strip() and not line.startswith("#")]
            shares = [int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()]
            found["sm_percent_by_second"] = shares
            found["sm_percent_median"] = statistics.median(shares) if shares else None


def through(by: OpenedBundle, files: list[bytes], count: int, device: bool, workers: int = 16) -> dict[str, Any]:
    """Images per second, and the card's share of it."""
    found: dict[str, Any] = {}
    views = DeviceViews(open_device()) if device else HostViews()
    try:
        with budget(4_000_000_000), watched(found):
            found.update(images_per_s(files, replace(by, views=views), workers if is_real() else 2, count))
    finally:
        views.close()
    return found


def alone(by: OpenedBundle, files: list[bytes], device: bool) -> dict[str, Any]:
    """Milliseconds of one image by itself, and of its parts."""
    views = DeviceViews(open_device()) if device else HostViews()
    judge = Judge(replace(by, views=views))
    timings = [
        judge_one(files[index % len(files)], judge, DetectOptions()).timings_ms
        for index in range(12 if is_real() else 2)
    ]
    views.close()
    names = ("decode", "views", "engine", "aggregate", "total")
    return {f"{name}_ms": round(statistics.median(getattr(item, name) for item in timings), 2) for name in names}


def same_verdicts(by: OpenedBundle, files: list[bytes]) -> dict[str, float]:
    """P(fake) of the same images by views made on the card and in memory."""
    found = list[list[float]]()
    for kind in (DeviceViews(open_device()), HostViews()):
        judge = Judge(replace(by, views=kind))
        found.append([judge_one(data, judge, DetectOptions()).probability_fake for data in files])
        kind.close()
    on_card, in_memory = map(np.array, found)
    return {"largest difference of P(fake)": float(np.abs(on_card - in_memory).max())}


def main(output: str, scale: float) -> None:
    """Writes the step's figures to `output`."""
    # Not cudnn.benchmark: it empties torch's cache of memory, which the captured graphs still use.
    record = Record(Path(output))
    dim = 768 if scale >= 1 else 64
    with tempfile.TemporaryDirectory() as place:
        graph = with_fused_attention(local_embedder("vit_b16")) if scale >= 1 else Small()
        engines = {
            role: open_stand_in(Path(place), open_device(), graph, dim, dtype=dtype)
            for role, dtype in (("global", "float32"), ("local", "uint8"))
        }
        for role, dtype in (("global", np.float32), ("local", np.uint8)):
            for bucket in engines[role].buckets if scale >= 1 else ():
                for _ in range(4):
                    engines[role].run({"pixels": np.zeros((bucket.size, 224, 224, 3), dtype)})
        by = opened(engines, BATCH, dim)
        size = (1000, 1000) if scale >= 1 else (300, 400)
        small = [encoded(of_size(pixels, *size), Kind()) for pixels in photographs()[:4]]
        record.part("same verdicts", lambda: same_verdicts(by, small))
        for size_name, files, count in (
            ("24 MP", files_of("24 MP", scale), 400), ("12 MP", files_of("12 MP", scale), 800), ("1 MP", small, 5000),
        ):  # fmt: skip
            for device in (True, False):
                where = "views on the card" if device else "views in memory"
                record.part(
                    f"{size_name}, {where}",
                    lambda f=files, c=count, d=device: through(by, f, c if scale >= 1 else 6, d),  # type: ignore[misc]
                )
            if size_name != "12 MP":
                record.part(f"{size_name}, one by itself", lambda f=files: alone(by, f, True))  # type: ignore[misc]
        by.close()
