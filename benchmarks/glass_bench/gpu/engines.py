"""Step 8: engines of a library that runs on GPUs: built, compared with PyTorch, timed, and run thousands of times."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np

from glass_bench.gpu.hour.device import open_device
from glass_bench.gpu.hour.record import LeftOut, Record
from glass_bench.gpu.hour.step1_seam import refused
from glass_bench.gpu.kernels import TellsLayers, kernels_of
from glass_bench.gpu.verdicts import IMAGES, ragged_verdicts
from glass_rt.backends import Backend, open_backend
from glass_rt.backends.embedding import INPUT, OUTPUT, start_embedding
from glass_rt.bundle.bundle import Bundle
from glass_rt.inference.engines import open_engines, warm_up
from glass_rt.inference.head import Head
from glass_rt.inference.parity import verify_parity

COMMAND = """
from glass_bench.gpu.step import prepare_dry_run
prepare_dry_run()
from glass_rt.__main__ import main
main()
"""
EFFORT = "2"  # of TensorRT's builder: levels 3 and 4 may take longer than the step


@dataclass(frozen=True)
class Sizes:
    """How much a step does: crops of an image, runs to warm up and to time; the largest batch, or the profile's."""

    crop_counts: tuple[int, ...] = (1, 4, 10, 64)
    warm_ups: int = 5
    repeats: int = 30
    max_batch: int | None = None
    images: tuple[tuple[int, int, int], ...] = IMAGES  # of the packs of verdicts


DRY = Sizes((1, 2), 1, 2, 4, ((180, 300, 3), (460, 460, 2)))


def main(output: str, scale: float, what: str, backend: str = "", backbone: str = "", *more: str) -> None:
    """Does `what` (see `glass_bench.gpu.steps`), and writes its figures to `output`."""
    record, sizes = Record(Path(output)), Sizes() if scale >= 1 else DRY
    if what in ("none", "refusal"):
        record.part(what, no_engines if what == "none" else refusal_by_rtx)
        return
    folder, soak_runs = more
    bundle = Path(folder) / f"{backbone}.{backend}"
    works: dict[str, Callable[[], Any]] = {
        "build": lambda: _build(backbone, backend, bundle, sizes),
        "parity": lambda: parity(bundle),
        "ragged packs": lambda: ragged(bundle),
        "ragged verdicts": lambda: ragged_verdicts(bundle, sizes.images),
        "latency": lambda: latencies(bundle, sizes),
        "parts": lambda: parts(bundle, sizes),
        "soak": lambda: soak(bundle, int(soak_runs), sizes),
        "views on the GPU": lambda: ragged_verdicts(bundle, sizes.images, views="device"),
    }
    record.part(what, works[what])


def no_engines() -> None:
    """There is nothing to try."""
    raise LeftOut("no library whose engines run on this GPU is installed (TensorRT, TensorRT for RTX, onnxruntime-gpu)")


def refusal_by_rtx() -> dict[str, str]:
    """A plan of TensorRT for RTX on a card that it has no code for: how we refuse it, and how the library does."""
    with TemporaryDirectory() as folder:
        _build("mobilenet_v3_small", "tensorrt_rtx", Path(folder) / "refused", Sizes())
        bundle = Bundle.open(Path(folder) / "refused")
        engine = bundle.manifest.engine
        plan = bundle.engine("local")
        opened_by_library = partial(open_backend, engine.backend, plan, precision=engine.precision, device="cuda")
        return {
            "ours": refused(lambda: open_engines(bundle))["words"],
            "the library's": refused(opened_by_library)["words"],
        }


def parity(path: Path) -> dict[str, Any]:
    """The parity gate at batches of 1, 2, K and the largest, against PyTorch's float32 values in the bundle.

    And the kernels that the card chose, with the type in which they sum, where the library tells.
    """
    with _opened(path, every_file=True) as (bundle, engines):
        found = dict(vars(verify_parity(bundle, engines)))
        told = {
            role: kernels_of(engine.layers()) for role, engine in engines.items() if isinstance(engine, TellsLayers)
        }
        return found | ({"kernels": told} if told else {})


def ragged(path: Path) -> dict[str, Any]:
    """How far crops in packs of 1, K, max, max + 1 and 5 x max are from the embeddings that they have alone."""
    with _opened(path) as (bundle, engines):
        most, trained = bundle.manifest.engine.max_batch, bundle.manifest.model.trained_crops
        views = _views(5 * most, bundle.manifest.model.crop_size)
        alone = np.concatenate([_embed(engines["local"], view[None]) for view in views[: most + 1]])
        norms = np.linalg.norm(alone, axis=1)
        worst = {}
        for count in sorted({1, trained, most, most + 1, 5 * most}):
            together = _embed(engines["local"], views[:count])[: most + 1]
            distance = np.linalg.norm(together - alone[: len(together)], axis=1) / norms[: len(together)]
            worst[str(count)] = float(distance.max())
        return {"worst relative distance by pack": worst}


def latencies(path: Path, sizes: Sizes) -> dict[str, Any]:
    """Milliseconds of whole packs by crop count, and images per second; copies and computing overlap in them."""
    with _opened(path) as (bundle, engines):
        size = bundle.manifest.model.crop_size
        results = {}
        for crops in sizes.crop_counts:
            whole, windows = _views(1, size).astype(np.float32), _views(crops, size)
            both = _timed(partial(_both, engines, whole, windows), sizes)
            local = _timed(partial(_embed, engines["local"], windows), sizes)
            results[str(crops)] = {"image_ms": both, "local_ms": local}
        most = bundle.manifest.engine.max_batch
        pack = _views(4 * most, size)
        full = _timed(partial(_embed, engines["local"], pack), sizes)
        return {"by crops": results, "crops per second, full packs": 1e3 * len(pack) / full["median"]}


def parts(path: Path, sizes: Sizes) -> dict[str, Any]:
    """Milliseconds by crop count of what overlaps in `latencies`: staging, copies and computing of both engines; pool.

    `pool` is the head over the embeddings, on the host.
    """
    with _opened(path) as (bundle, engines):
        model, results = bundle.manifest.model, {}
        head = Head.for_model(model, bundle.head())
        for crops in sizes.crop_counts:
            feeds = {"global": _views(1, model.crop_size).astype(np.float32), "local": _views(crops, model.crop_size)}
            found = {role: _embed(engines[role], views) for role, views in feeds.items()}
            results[str(crops)] = {
                **{role: stage_medians(engines[role], views, sizes) for role, views in feeds.items()},
                "pool": _timed(partial(head.judge, found["global"][0], found["local"]), sizes),
            }
        return {"by crops": results}


def stage_medians(engine: Any, views: Any, sizes: Sizes) -> dict[str, float]:
    """Median of each part over the repetitions, after warming up, in milliseconds."""
    for _ in range(sizes.warm_ups):
        engine.stage_times({INPUT: views})
    times = [asdict(engine.stage_times({INPUT: views})) for _ in range(sizes.repeats)]
    return {part: statistics.median(one[part] for one in times) for part in times[0]}


def soak(path: Path, runs: int, sizes: Sizes) -> dict[str, Any]:
    """Thousands of runs of changing size, and what of the GPU's free memory is gone afterwards."""
    with _opened(path) as (bundle, engines), closing(open_device()) as gpu:
        views = _views(bundle.manifest.engine.max_batch, bundle.manifest.model.crop_size)
        warm_up(engines)
        for count in (1, 2, 3, 4) * sizes.warm_ups:
            for _ in range(4):  # on both lanes, twice
                _embed(engines["local"], views[:count])
        with gpu.current():
            before = gpu.memory()[0]
        start = perf_counter()
        for index in range(runs):
            _embed(engines["local"], views[: 1 + index % 4])
        with gpu.current():
            lost = before - gpu.memory()[0]
        return {"runs": runs, "seconds": perf_counter() - start, "bytes not given back": lost}


def _command(*arguments: str) -> Any:
    done = subprocess.run([sys.executable, "-c", COMMAND, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr or done.stdout)
    return json.loads(done.stdout)


def _build(backbone: str, backend: str, bundle: Path, sizes: Sizes) -> Any:
    """By the command line; never an engine that was built before and kept."""
    arguments = [
        "--backend",
        backend,
        "--precision",
        "fp16",
        "--output",
        str(bundle),
        "--force",
        "--json",
        "--no-cache",
    ]
    arguments += ["--optimisation-level", EFFORT] if backend == "tensorrt" else []
    arguments += ["--max-batch", str(sizes.max_batch)] if sizes.max_batch else []
    manifest = _command("build", "--backbone", backbone, *arguments)
    return {name: manifest[name] for name in ("engine", "parity", "precision_report", "tools")}


def _views(count: int, size: int) -> Any:
    return np.random.default_rng(606).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def _embed(engine: Backend, views: Any) -> Any:
    return engine.run({INPUT: views})[OUTPUT]


def _both(engines: dict[str, Any], whole: Any, crops: Any) -> None:
    pairs = (("global", whole), ("local", crops))
    waits = [start_embedding(engines[role], views, len(views)) for role, views in pairs]
    for wait in waits:
        wait()


def _timed(work: Callable[[], Any], sizes: Sizes) -> dict[str, float]:
    for _ in range(sizes.warm_ups):
        work()
    times = []
    for _ in range(sizes.repeats):
        start = perf_counter()
        work()
        times.append((perf_counter() - start) * 1e3)
    return {"median": statistics.median(times), "least": min(times), "most": max(times)}


@contextmanager
def _opened(path: Path, *, every_file: bool = False) -> Iterator[tuple[Bundle, dict[str, Any]]]:
    """A bundle and its engines, which are closed after the block."""
    bundle = Bundle.open(path, every_file=every_file)
    engines: dict[str, Any] = {**open_engines(bundle)}
    try:
        yield bundle, engines
    finally:
        for engine in engines.values():
            engine.close()
