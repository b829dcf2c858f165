"""The GPU kit: builds the FP16 engines, checks what they compute, soaks and times them, and writes one report.

    python -m glass_bench.gpu.check --output gpu-check

For any machine with an NVIDIA GPU; `make gpu-check` sets it up. Every step is a process with a time limit: one that
crashes, hangs or loses the GPU's context costs itself alone, and the report says so. What is most likely to do that, or
takes longest, comes last. It has not run on a GPU yet.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from time import perf_counter, strftime
from typing import Any

import numpy as np
from glass_engines.registry import choose_backend

from glass_bench.gpu.verdicts import ragged_verdicts
from glass_rt.backends import Backend
from glass_rt.backends.embedding import INPUT, OUTPUT, start_embedding
from glass_rt.bundle.bundle import Bundle
from glass_rt.inference.engines import open_engines, warm_up
from glass_rt.inference.head import Head
from glass_rt.inference.parity import verify_parity
from glass_rt.machine.environment import backend_versions, cpu_name, gpus
from glass_rt.version import __version__

BACKBONES = ("vit_b16", "resnet50", "convnext_tiny")
STEP_SECONDS = 240.0  # of one step
EFFORT = "2"  # of TensorRT's builder: the kit is to end within ten minutes
CROP_COUNTS = (1, 4, 10, 64)
SOAK_RUNS = 10_000
WARM_UPS, REPEATS = 5, 30


def main() -> int:
    """Runs the kit; exit code 1 where a step failed. With `--step`, one step alone, whose outcome goes to a file."""
    options = _options()
    folder: Path = options.output
    folder.mkdir(parents=True, exist_ok=True)
    steps = steps_of(options)
    if options.step is not None:
        _outcome(folder).write_text(json.dumps(_tried(steps[options.step])))
        return 0
    report: dict[str, Any] = {"header": header(), "steps": {}}
    for name in steps:
        print(f"{name} ...", flush=True)
        report["steps"][name] = in_a_process(name, options)
        (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        (folder / "report.md").write_text(markdown(report))
    failed = [name for name, step in report["steps"].items() if "error" in step]
    print(f"{folder / 'report.md'}: {len(report['steps']) - len(failed)} steps passed, {len(failed)} failed")
    return 1 if failed else 0


def steps_of(options: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """The steps by name, in their order."""
    backend, backbones = choose_backend(options.backend), options.backbones.split(",")
    bundles = {backbone: options.output / f"{backbone}.{backend}" for backbone in backbones}
    steps: dict[str, Callable[[], Any]] = {"doctor": lambda: _command("doctor", "--json")}
    for backbone, bundle in bundles.items():
        steps |= {
            f"{backbone}: build": partial(_build, backbone, backend, bundle),
            f"{backbone}: parity": partial(parity, bundle),
            f"{backbone}: ragged packs": partial(ragged, bundle),
            f"{backbone}: ragged verdicts": partial(ragged_verdicts, bundle),
            f"{backbone}: latency": partial(latencies, bundle),
        }
        if backend != "onnxruntime":  # which tells no times of parts
            steps[f"{backbone}: parts"] = partial(parts, bundle)
        steps[f"{backbone}: soak"] = partial(soak, bundle, options.soak)
    if backend != "onnxruntime":  # which reads views from memory
        for backbone, bundle in bundles.items():
            name = f"{backbone}: ragged verdicts, views made on the GPU"
            steps[name] = partial(ragged_verdicts, bundle, views="device")
    return steps | {f"{backbone}: torch": partial(torch_latencies, backbone) for backbone in backbones}


def in_a_process(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Runs a step in a process of its own; its outcome, with the seconds that it took."""
    start = perf_counter()
    _outcome(options.output).unlink(missing_ok=True)
    given = ["--output", str(options.output), "--backend", options.backend, "--backbones", options.backbones]
    command = [sys.executable, "-m", "glass_bench.gpu.check", *given, "--soak", str(options.soak), "--step", name]
    try:
        done = subprocess.run(command, timeout=options.step_seconds, check=False)
        step = json.loads(_outcome(options.output).read_text())
    except subprocess.TimeoutExpired:
        step = {"error": f"it was ended after {options.step_seconds:.0f} s"}
    except (OSError, ValueError):
        step = {"error": f"its process ended with {done.returncode} and left no outcome"}
    return {**step, "seconds": perf_counter() - start}


def _outcome(folder: Path) -> Path:
    return folder / "step.json"


def header() -> dict[str, Any]:
    """The hardware and software of this machine, for the head of the report."""
    return {
        "date": strftime("%Y-%m-%d %H:%M:%S %z"), "glass_rt": __version__, "python": platform.python_version(),
        "platform": platform.platform(), "cpu": cpu_name(), "gpus": [vars(gpu) for gpu in gpus()],
        "backends": dict(backend_versions()),
    }  # fmt: skip


def parity(path: Path) -> dict[str, Any]:
    """The parity gate at batches of 1, 2, K and the largest, against PyTorch's float32 values in the bundle."""
    with _opened(path, every_file=True) as (bundle, engines):
        return dict(vars(verify_parity(bundle, engines)))


def ragged(path: Path) -> dict[str, Any]:
    """Packs of 1, K, max, max + 1 and 5 x max crops give every crop the embedding that it has alone."""
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
        if max(worst.values()) > 4e-3:
            raise AssertionError(f"a crop's embedding depends on its neighbours: {worst}")
        return {"worst relative distance by pack": worst}


def latencies(path: Path) -> dict[str, Any]:
    """Milliseconds of whole packs by crop count, and images per second; copies and computing overlap in them."""
    with _opened(path) as (bundle, engines):
        size = bundle.manifest.model.crop_size
        results = {}
        for crops in CROP_COUNTS:
            whole, windows = _views(1, size).astype(np.float32), _views(crops, size)
            both = _timed(partial(_both, engines, whole, windows))
            local = _timed(partial(_embed, engines["local"], windows))
            results[str(crops)] = {"image_ms": both, "local_ms": local}
        most = bundle.manifest.engine.max_batch
        pack = _views(4 * most, size)
        full = _timed(partial(_embed, engines["local"], pack))
        return {"by crops": results, "crops per second, full packs": 1e3 * len(pack) / full["median"]}


def parts(path: Path) -> dict[str, Any]:
    """Milliseconds by crop count of what overlaps in `latencies`: staging, copies and computing of both engines; pool.

    `pool` is the head over the embeddings, on the host.
    """
    with _opened(path) as (bundle, engines):
        model, results = bundle.manifest.model, {}
        head = Head.for_model(model, bundle.head())
        for crops in CROP_COUNTS:
            feeds = {"global": _views(1, model.crop_size).astype(np.float32), "local": _views(crops, model.crop_size)}
            found = {role: _embed(engines[role], views) for role, views in feeds.items()}
            results[str(crops)] = {
                **{role: stage_medians(engines[role], views) for role, views in feeds.items()},
                "pool": _timed(partial(head.judge, found["global"][0], found["local"])),
            }
        return {"by crops": results}


def stage_medians(engine: Any, views: Any) -> dict[str, float]:
    """Median of each part over the repetitions, after warming up, in milliseconds."""
    for _ in range(WARM_UPS):
        engine.stage_times({INPUT: views})
    times = [asdict(engine.stage_times({INPUT: views})) for _ in range(REPEATS)]
    return {part: statistics.median(one[part] for one in times) for part in times[0]}


def soak(path: Path, runs: int) -> dict[str, Any]:
    """Thousands of runs of changing size; the GPU's free memory must not shrink."""
    from glass_rt.backends.cuda import open_gpu

    with _opened(path) as (bundle, engines), closing(open_gpu()) as gpu:
        views = _views(bundle.manifest.engine.max_batch, bundle.manifest.model.crop_size)
        warm_up(engines)
        for count in (1, 2, 3, 4) * WARM_UPS:
            for _ in range(4):  # on both lanes, twice
                _embed(engines["local"], views[:count])
        with gpu.current():
            before = gpu.memory()[0]
        start = perf_counter()
        for index in range(runs):
            _embed(engines["local"], views[: 1 + index % 4])
        with gpu.current():
            lost = before - gpu.memory()[0]
        if lost > 16 << 20:
            raise AssertionError(f"{runs} runs took {lost >> 20} MB of GPU memory that did not come back")
        return {"runs": runs, "seconds": perf_counter() - start, "bytes not given back": lost}


def torch_latencies(backbone: str) -> dict[str, Any]:
    """The same backbone in PyTorch: FP16 eager and compiled, views already on the GPU and normalised."""
    import torch
    from glass_export.backbones import find_backbone

    model = find_backbone(backbone)
    module = model.embedding_only(model.build()).eval().half().cuda()
    compiled = torch.compile(module)
    results: dict[str, Any] = {}

    def run(callee: Callable[[torch.Tensor], torch.Tensor], planes: torch.Tensor) -> None:
        callee(planes)
        torch.cuda.synchronize()

    for crops in CROP_COUNTS:
        planes = torch.randn(crops, 3, 224, 224, device="cuda", dtype=torch.float16)
        for name, callee in (("eager", module), ("compiled", compiled)):
            with torch.inference_mode():
                results[f"{name}, {crops} crops"] = _timed(partial(run, callee, planes))
    return results


def markdown(report: dict[str, Any]) -> str:
    """The report for people."""
    lines = ["# GPU check", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in report["header"].items()]
    for name, step in report["steps"].items():
        lines += ["", f"## {name}: {'FAILED' if 'error' in step else 'passed'} ({step['seconds']:.1f} s)", "", "```"]
        lines += [step.get("error") or json.dumps(step["result"], indent=1), "```"]
    return "\n".join(lines) + "\n"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("gpu-check"))
    parser.add_argument("--backend", default="auto", choices=["auto", "tensorrt", "tensorrt_rtx", "onnxruntime"])
    parser.add_argument("--backbones", default=",".join(BACKBONES))
    parser.add_argument("--soak", type=int, default=SOAK_RUNS)
    parser.add_argument("--step-seconds", type=float, default=STEP_SECONDS)
    parser.add_argument("--step", help=argparse.SUPPRESS)
    return parser.parse_args()


def _tried(work: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"result": work()}
    except Exception:
        return {"error": traceback.format_exc()}


def _command(*arguments: str) -> Any:
    done = subprocess.run([sys.executable, "-m", "glass_rt", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr or done.stdout)
    return json.loads(done.stdout)


def _build(backbone: str, backend: str, bundle: Path) -> Any:
    arguments = ["--backend", backend, "--precision", "fp16", "--output", str(bundle), "--force", "--json"]
    arguments += ["--optimisation-level", EFFORT] if backend == "tensorrt" else []
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


def _timed(work: Callable[[], Any]) -> dict[str, float]:
    for _ in range(WARM_UPS):
        work()
    times = []
    for _ in range(REPEATS):
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


if __name__ == "__main__":
    sys.exit(main())
