"""Step 3: the TensorRT backend's scheduling on a real card, over engines that are torch modules (`stand_in.py`)."""
# ruff: noqa: B023  # what is timed in a loop is called before the loop goes on

from __future__ import annotations

import os
import resource
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from glass_bench.gpu.hour.device import is_real, open_device
from glass_bench.gpu.hour.measure import host_ms, rate_per_s, torch_ms
from glass_bench.gpu.hour.models import DEVICE, distances_of, local_embedder
from glass_bench.gpu.hour.record import Record
from glass_bench.gpu.hour.stand_in import open_stand_in
from glass_bench.gpu.hour.step1_seam import child, refused
from glass_bench.gpu.hour.step2_views import picture
from glass_rt.backends.cuda.device_views import DeviceViews
from glass_rt.backends.trt.backend import TrtBackend
from glass_rt.backends.trt.buckets import plan_runs
from glass_rt.image.sampling import stratified

SIZE = 224
COUNTS, FEW = (1, 2, 3, 10, 11, 37, 64, 100), (1, 2, 11)
PACK = 264  # views: 24 images of 11, or six runs of the largest batch less a few


class Small(nn.Module):
    """A cheap embedder, every row from its own view alone, for thousands of runs."""

    weights: Tensor

    def __init__(self, dim: int = 64) -> None:
        super().__init__()
        self.dim = dim
        generator = torch.Generator().manual_seed(1)
        self.register_buffer("weights", torch.randn(dim, 3, 16, 16, generator=generator) / 300)

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, S, S, 3) -> (N, dim) float32."""
        planes = pixels.to(torch.float32).permute(0, 3, 1, 2)
        return nn.functional.conv2d(planes, self.weights, stride=16).mean((2, 3))


def views_of(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Noise with a mean of its own in every view."""
    views = np.random.default_rng(seed).integers(0, 128, (count, SIZE, SIZE, 3), dtype=np.uint8)
    views += np.random.default_rng(seed + 1).integers(0, 128, (count, 1, 1, 3), dtype=np.uint8)
    return views


def direct(module: nn.Module, views: NDArray[Any], backend: TrtBackend) -> NDArray[np.float32]:
    """What torch alone computes in the same batches, padded with zeros."""
    rows = []
    with torch.no_grad():
        for run in plan_runs(len(views), backend.buckets):
            batch = np.zeros((run.bucket.size, *views.shape[1:]), views.dtype)
            batch[: run.rows] = views[run.rows_of_pack]
            rows.append(module(torch.from_numpy(batch).to(DEVICE)).cpu().numpy()[: run.rows])
    return np.concatenate(rows)


def equal_rows(folder: Path, module: nn.Module, dim: int, counts: tuple[int, ...]) -> dict[str, Any]:
    """Every count five times (plain, captured, replayed, on both lanes): the bits that torch alone computes?"""
    backend, found = open_stand_in(folder, open_device(), module, dim), dict[str, Any]()
    alone = backend.run({"pixels": views_of(1)})["embedding"]
    for count in counts:
        views = views_of(count)
        expected = direct(module, views, backend)
        results = [backend.run({"pixels": views})["embedding"] for _ in range(5)]
        found[str(count)] = {
            "runs_bit_equal_to_torch": sum(int(np.array_equal(result, expected)) for result in results),
            "of": len(results),
            "largest_distance_to_torch": float(max(distances_of(result, expected).max() for result in results)),
            "first_row_to_itself_alone": float(distances_of(results[-1][:1], alone)[0]),
        }
    order = views_of(max(counts))
    one_by_one = np.concatenate([backend.run({"pixels": order[i : i + 1]})["embedding"] for i in range(len(order))])
    together = backend.run({"pixels": order})["embedding"]
    found["one by one to together, relative L2"] = float(distances_of(one_by_one, together).max())
    found["graphs"] = sum(prepared.graph is not None for prepared in backend._prepared.values())
    backend.close()
    return found


def device_arrays(folder: Path, module: nn.Module, dim: int) -> dict[str, Any]:
    """Packs that lie on the device already, written by DeviceViews, give what the same packs in memory give."""
    backend, views = open_stand_in(folder, open_device(), module, dim), DeviceViews(open_device())
    pixels = picture(900, 1200)
    boxes = stratified(900, 1200, 10, 606, SIZE).boxes
    from glass_rt.image.views import HostViews

    wrong, kinds = 0, tuple[Any, ...]((views, HostViews()))
    for _ in range(6):
        results = []
        for kind in kinds:
            wholes, crops = kind.empty((1, SIZE, SIZE, 3), np.float32), kind.empty((10, SIZE, SIZE, 3), np.uint8)
            kind.write(pixels, boxes, wholes[0], crops)
            wait = backend.submit({"pixels": crops})
            del crops, wholes
            results.append(wait()["embedding"])
        wrong += int(not np.array_equal(results[0], results[1]))
    backend.close()
    views.close()
    return {"packs": 6, "that_differ": wrong}


def capture_beside_views(folder: Path, module: nn.Module, dim: int, scale: float) -> dict[str, Any]:
    """New engines capture every batch size while eight threads make views on the same card."""
    views, stop, errors = DeviceViews(open_device()), threading.Event(), list[str]()
    pixels = picture(int(3000 * max(scale, 0.1)), int(4000 * max(scale, 0.1)))
    boxes = stratified(pixels.shape[0], pixels.shape[1], 10, 606, SIZE).boxes
    written = [0] * 8

    def busy(index: int) -> None:
        try:
            while not stop.is_set():
                wholes, crops = views.empty((1, SIZE, SIZE, 3), np.float32), views.empty((10, SIZE, SIZE, 3), np.uint8)
                views.write(pixels, boxes, wholes[0], crops)
                written[index] += 1
        except Exception as error:
            errors.append(f"views: {error}")

    threads = [threading.Thread(target=busy, args=(index,)) for index in range(8 if is_real() else 1)]
    for thread in threads:
        thread.start()
    wrong = captured = 0
    try:
        for _ in range(2):
            backend = open_stand_in(folder, open_device(), module, dim)
            for count in (1, 2, 4, 8, 10, 16, 32, 64) if scale >= 1 else (1, 2):
                views_now = views_of(count, count)
                results = [backend.run({"pixels": views_now})["embedding"] for _ in range(6)]
                wrong += sum(not np.array_equal(result, results[0]) for result in results)
            captured += sum(prepared.graph is not None for prepared in backend._prepared.values())
            backend.close()
    except Exception as error:
        errors.append(f"engine: {error}")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    views.close()
    return {
        "graphs_captured": captured,
        "results_that_changed": wrong,
        "images_meanwhile": sum(written),
        "errors": errors,
    }


def soak(folder: Path, scale: float) -> dict[str, Any]:
    """Thousands of packs of 1 to 16 views, two under way at a time: right, and memory where it was."""
    gpu = open_device()
    backend = open_stand_in(folder, gpu, Small().to(DEVICE), 64)
    counts = (1, 2, 3, 4, 7, 10, 16) if is_real() else FEW
    packs = {count: views_of(count, count) for count in counts}
    for _ in range(5):
        expected = {count: backend.run({"pixels": packs[count]})["embedding"] for count in counts}
    with gpu.current():
        free_before = gpu.memory()[0]
    resident_before = _resident_mb()
    runs, wrong, start = max(20, int(10_000 * scale)), 0, perf_counter()
    waiting: list[tuple[int, Callable[[], Any]]] = []
    for number in range(runs):
        count = counts[number % len(counts)]
        waiting.append((count, backend.submit({"pixels": packs[count]})))
        if len(waiting) == 2:
            count, wait = waiting.pop(0)
            wrong += int(not np.allclose(wait()["embedding"], expected[count], rtol=0, atol=1e-4))
    seconds = perf_counter() - start
    with gpu.current():
        lost = free_before - gpu.memory()[0]
    found = {
        "packs": runs, "wrong": wrong, "packs_per_s": round(runs / seconds), "device_bytes_lost": lost,
        "host_mb_grown": round(_resident_mb() - resident_before, 1),
    }  # fmt: skip
    for _, wait in waiting:
        wait()
    backend.close()
    return found


def refused_captures(folder: Path) -> dict[str, Any]:
    """What becomes of an engine whose graph is refused: by a call that captures forbid, or by the library's False."""

    def synchronising(capturing: bool) -> bool:
        if capturing and is_real():
            torch.cuda.synchronize()
        return True

    def declining(capturing: bool) -> bool:
        return not capturing

    found = {}
    for name, before in (("a call that captures forbid", synchronising), ("the library says no", declining)):
        gpu = open_device()
        backend = open_stand_in(folder, gpu, Small().to(DEVICE), 64, before=before)
        runs = [refused(lambda: backend.run({"pixels": views_of(4)}))["words"] for _ in range(6)]
        found[name] = {"six runs": runs, "close": refused(backend.close)["words"]}
        fresh = open_stand_in(folder, open_device(), Small().to(DEVICE), 64)
        found[name]["an engine opened afterwards"] = refused(lambda: fresh.run({"pixels": views_of(4)}))["words"]
        fresh.close()
    return found


def closing(folder: Path) -> dict[str, Any]:
    """An engine closed while a pack is under way, three times: what is left on the card must not grow."""
    gpu, left = open_device(), []
    with gpu.current():
        before = gpu.memory()[0]
    for _ in range(3):
        backend = open_stand_in(folder, open_device(), Small().to(DEVICE), 64)
        for _ in range(5):
            backend.run({"pixels": views_of(16)})
        wait = backend.submit({"pixels": views_of(16)})
        closed, waited = refused(backend.close), refused(wait)
        with gpu.current():
            left.append(before - gpu.memory()[0])
    gpu.close()
    return {"close": closed, "wait": waited, "bytes_left_after_each": left}


def blocking_events(folder: Path, scale: float) -> dict[str, Any]:
    """Small packs per second, and the processor time of a pack, with events that spin and with events that sleep."""
    found: dict[str, Any] = {}
    for name in ("spinning", "sleeping") if is_real() else ("spinning",):
        gpu = open_device()
        if name == "spinning":
            gpu.create_event = partial(gpu.create_event, timed=True)  # type: ignore[method-assign]
        backend = open_stand_in(folder, gpu, Small().to(DEVICE), 64)
        for count in (1, 10, 64) if is_real() else FEW[:2]:
            feeds = {"pixels": views_of(count)}
            for _ in range(5):
                backend.run(feeds)
            start, own = perf_counter(), thread_time()
            rate = rate_per_s(lambda _thread: backend.run(feeds), 1, 0.6 * scale)
            start, own = perf_counter(), thread_time()
            for _ in range(20):
                backend.run(feeds)
            share = (thread_time() - own) / (perf_counter() - start)
            found[f"{name}, packs of {count}"] = {"packs_per_s": rate, "processor_share": round(share, 3)}
        backend.close()
    return found


def speed(folder: Path, module: nn.Module, dim: int, scale: float) -> dict[str, Any]:
    """A pack through the backend beside the same batches as a torch graph alone, and the parts of a run."""
    count = PACK if is_real() else 11
    backend, views = open_stand_in(folder, open_device(), module, dim), views_of(count)
    feeds = {"pixels": views}
    for _ in range(4):
        backend.run(feeds)
    repeats = 8 if is_real() else 1
    one = host_ms(lambda: backend.run(feeds), repeats)

    def two_under_way() -> None:
        first = backend.submit(feeds)
        for _ in range(7 if is_real() else 1):
            second = backend.submit(feeds)
            first()
            first = second
        first()

    many = host_ms(two_under_way, 2, 0)
    stages = backend.stage_times({"pixels": views[:64]})
    submits = host_ms(lambda: backend.submit(feeds)(), 1)
    runs = [run.bucket.size for run in plan_runs(count, backend.buckets)]
    backend.close()
    found: dict[str, Any] = {
        "views": count, "runs": runs, "pack_ms": one, "eight_packs_overlapped_ms": many, "submit_and_wait_ms": submits,
        "views_per_s": round(count / one.median * 1e3), "stages_of_64_ms": stages,
        "views_per_s_overlapped": round((8 if is_real() else 2) * count / many.median * 1e3),
    }  # fmt: skip
    if is_real():
        pixels = torch.from_numpy(views[:64]).to(DEVICE)
        graph = torch.cuda.CUDAGraph()
        with torch.no_grad():
            module(pixels)
            torch.cuda.synchronize()
            with torch.cuda.graph(graph):
                module(pixels)
        took = torch_ms(graph.replay, 10)
        found["torch_graph_of_64_ms"] = took
        found["ceiling_views_per_s"] = round(64 / took.median * 1e3)
    return found


def submitting_threads(folder: Path, scale: float) -> dict[str, Any]:
    """Small packs per second, as a bound on what the host's part of a run costs."""
    backend = open_stand_in(folder, open_device(), Small().to(DEVICE), 64)
    found = {}
    for count in (1, 10, 64) if is_real() else FEW[:2]:
        feeds = {"pixels": views_of(count)}
        for _ in range(5):
            backend.run(feeds)
        found[f"packs_of_{count}_per_s"] = rate_per_s(lambda _thread: backend.run(feeds), 1, 0.6 * scale)
    backend.close()
    return found


LOST = """
import json, tempfile
from pathlib import Path
import torch
from glass_bench.gpu.hour.device import is_real, open_device
from glass_bench.gpu.hour.models import DEVICE
from glass_bench.gpu.hour.stand_in import open_stand_in
from glass_bench.gpu.hour.step1_seam import refused
from glass_bench.gpu.hour.step3_backend import Small, views_of
from glass_rt.backends.cuda.gpu import gpu_error

calls = [0]
bad = torch.zeros(8, dtype=torch.int64, device=DEVICE)
if is_real():
    torch.cuda.synchronize()

class Broken(Small):
    def forward(self, pixels):
        calls[0] += 1
        if calls[0] == 4 and not is_real():
            raise gpu_error("run", "ILLEGAL_ADDRESS")
        if calls[0] == 4:
            index = torch.full((8,), 1 << 40, dtype=torch.int64, device=DEVICE)
            bad.index_put_((index,), bad[:1].expand(8))
        return super().forward(pixels)

folder = Path(tempfile.mkdtemp())
gpu = open_device()
gpu.captures_graphs = False
backend = open_stand_in(folder, gpu, Broken().to(DEVICE), 64)
found = {"runs": [refused(lambda: backend.run({"pixels": views_of(4)}))["words"] for _ in range(6)]}
found["close"] = refused(backend.close)["words"]
print(json.dumps(found))
import os, sys
sys.stdout.flush()
os._exit(0)
"""


def _resident_mb() -> float:
    if os.path.exists("/proc/self/statm"):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
    return 0.0


def main(output: str, scale: float, what: str = "all") -> None:
    """Writes the step's figures to `output`."""
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    record = Record(Path(output))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        small = Small().to(DEVICE)
        if what == "refusals":
            record.part("refused_captures", lambda: refused_captures(folder))
            record.part("closing", lambda: closing(folder))
            record.part("blocking_events", lambda: blocking_events(folder, scale))
            return
        record.part("equal_rows_small", lambda: equal_rows(folder, small, 64, COUNTS if scale >= 1 else FEW))
        record.part("device_arrays", lambda: device_arrays(folder, small, 64))
        record.part("soak", lambda: soak(folder, scale))
        record.part("submitting", lambda: submitting_threads(folder, scale))
        vit, dim = (local_embedder("vit_b16"), 768) if scale >= 1 else (small, 64)
        record.part("equal_rows_backbone", lambda: equal_rows(folder, vit, dim, COUNTS if scale >= 1 else FEW[:2]))
        record.part("capture_beside_views", lambda: capture_beside_views(folder, vit, dim, scale))
        record.part("speed", lambda: speed(folder, vit, dim, scale))
        record.part("lost_context", lambda: child(LOST))
