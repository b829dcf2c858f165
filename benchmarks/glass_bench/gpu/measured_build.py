"""What a build of engines by TensorRT for RTX costs, measured in a process of its own.

    python -m glass_bench.gpu.measured_build GRAPH ENGINE [GRAPH ENGINE]...

Counted is memory of the process's own (RssAnon, so Linux alone), every 2 ms, beyond what it held once the library was
loaded; pages of mapped files can be taken away at any time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from glass_engines.trt.compiler import compiler_for
from glass_engines.trt.settings import TrtSettings

from glass_rt.backends.trt.library import load_library

BACKEND, PROFILE = "tensorrt_rtx", "rtx"
_LOOK_EVERY_S = 0.002


@dataclass(frozen=True)
class BuildCost:
    """Seconds by the clock and of the processor, and the largest extra memory in bytes, seen in `looks` looks."""

    seconds: float
    processor_seconds: float
    extra_bytes: int
    looks: int


def measured_build(pairs: Iterable[tuple[Path, Path]]) -> BuildCost:
    """Compiles each graph into the engine beside it, which is named after its role, one after the other."""
    arguments = [str(path) for pair in pairs for path in pair]
    command = [sys.executable, "-m", "glass_bench.gpu.measured_build", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return BuildCost(**json.loads(done.stdout))


def _build_here(pairs: Iterable[tuple[Path, Path]]) -> BuildCost:
    trt = load_library(BACKEND).trt
    trt.Builder(load_library(BACKEND).logger)  # which loads the builder's resources
    compiler = compiler_for(BACKEND, TrtSettings(profile=PROFILE))
    before, seen = _own_bytes(), list[int]()
    threading.Thread(target=_watch, args=(seen,), daemon=True).start()
    start, used = time.perf_counter(), time.process_time()
    for graph, engine in pairs:
        compiler.compile(graph, engine)
    cost = time.perf_counter() - start, time.process_time() - used
    return BuildCost(*cost, max(seen) - before, len(seen))


def _watch(seen: list[int]) -> None:
    while True:
        seen.append(_own_bytes())
        time.sleep(_LOOK_EVERY_S)


def _own_bytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("RssAnon:")[1].split()[0]) << 10


if __name__ == "__main__":
    given = [Path(argument) for argument in sys.argv[1:]]
    print(json.dumps(asdict(_build_here(list(zip(given[::2], given[1::2], strict=True))))))
