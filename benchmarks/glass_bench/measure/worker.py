"""One contender's process: takes orders as JSON lines on standard input, replies to each with one on standard output.

python -m glass_bench.measure.worker; started by `glass_bench.measure.process`, not by hand. What libraries print goes
to stderr.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from time import perf_counter
from typing import Any, TextIO

from glass_bench.errors import BenchError
from glass_bench.measure import loadgen, memory
from glass_bench.measure.contenders import Contender
from glass_bench.measure.systems import ImageResult, System, open_system
from glass_bench.measure.systems.engine import EngineSystem
from glass_rt.errors import GlassError
from glass_rt.machine.environment import usable_cores

Order = dict[str, Any]
Reply = dict[str, Any]


class ContenderWorker:
    """The contender that this process is, once it is open: `systems[0]`, and more of them for more workers."""

    def __init__(self) -> None:
        self.systems: list[System] = []

    def open(self, order: Order) -> Reply:
        """Opens the contender."""
        contender = Contender.from_json(order["contender"])
        start = perf_counter()
        shared = replace(contender, threads=threads_each(contender))
        self.systems = [open_system(shared) for _ in range(contender.workers)]
        opened_s = perf_counter() - start
        return {
            "description": asdict(self.systems[0].description),
            "open_s": opened_s,
            "resident_mb": memory.resident_mb(),
        }

    def check(self, _order: Order) -> Reply:
        """Compares the engines with their reference."""
        return {"complaint": self.systems[0].check()}

    def judge(self, order: Order) -> Reply:
        """Judges images one by one; for warm-up, agreement and stage times."""
        rows = []
        for path in order["paths"]:
            for system in self.systems[1:]:
                system.judge(path)
            start = perf_counter()
            result = self.systems[0].judge(path, order.get("crops"))
            rows.append({"total_ms": (perf_counter() - start) * 1e3, **_result_json(result)})
        return {"results": rows}

    def stream(self, order: Order) -> Reply:
        """Judges images as fast as it can, on a clock."""
        start = perf_counter()
        results = list(self.systems[0].judge_many(order["paths"]))
        wall_s = perf_counter() - start
        complaints = [result.complaint for result in results if result.complaint]
        if complaints:
            raise BenchError(f"{len(complaints)} of {len(results)} images: {complaints[0]}")
        return {"images": len(results), "wall_s": wall_s}

    def engine_alone(self, order: Order) -> Reply:
        """Judges the views of images again and again, without decoding them."""
        system = self.systems[0]
        assert isinstance(system, EngineSystem), "asked of engines"
        return {"images_per_s": system.engine_alone(order["paths"], order["seconds"])}

    def single_stream(self, order: Order) -> Reply:
        """A SingleStream run."""
        return _run_json(loadgen.single_stream(self.systems[0], order["paths"], order["seed"], order["expected_ms"]))

    def offline(self, order: Order) -> Reply:
        """An Offline run."""
        return _run_json(loadgen.offline(self.systems, order["paths"], order["seed"], order["samples"]))

    def server(self, order: Order) -> Reply:
        """A Server run at one rate."""
        keys = ("rate", "queries", "bound_ms", "percentile")
        return _run_json(
            loadgen.server(self.systems, order["paths"], order["seed"], **{key: order[key] for key in keys})
        )

    def memory(self, _order: Order) -> Reply:
        """Memory at its peak."""
        return {"peak_mb": memory.peak_mb()}


def serve(orders: TextIO, replies: TextIO) -> None:
    """Carries orders out until they end. A failing order gets an `error` in place of its reply."""
    worker = ContenderWorker()
    commands: dict[str, Callable[[Order], Reply]] = {
        name: getattr(worker, name)
        for name in (
            "open",
            "check",
            "judge",
            "stream",
            "engine_alone",
            "single_stream",
            "offline",
            "server",
            "memory",
        )
    }
    for line in orders:
        order = json.loads(line)
        try:
            reply = commands[order["do"]](order)
        except GlassError as error:
            reply = {"error": str(error)}
        except Exception as error:  # the parent names the contender; a traceback would hide that
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def threads_each(contender: Contender) -> int | None:
    """Threads of each of the contender's workers: they share what it has, or the cores."""
    if contender.workers == 1:
        return contender.threads
    return max(1, (contender.threads or usable_cores()) // contender.workers)


def _result_json(result: ImageResult) -> Reply:
    return {
        "probability_fake": result.probability_fake if result.complaint is None else None,
        "error": result.complaint,
        "stages_ms": dict(result.stages_ms) if result.stages_ms else None,
        "windows": result.windows,
    }


def _run_json(run: loadgen.LoadgenRun) -> Reply:
    return {
        "scenario": run.scenario,
        "loadgen": run.summary,
        "early_stopping": run.early_stopping,
        "void": run.void,
        "failures": len(run.failures),
        "reasons": sorted(set(run.failures))[:5],
        "images": [query.image for query in run.queries],
        "inside_ms": [query.inside_ms for query in run.queries],
        "stages_ms": [dict(query.result.stages_ms) for query in run.queries if query.result.stages_ms],
    }


def main() -> None:
    """Keeps the reply channel to itself: descriptor 1 becomes stderr for all other code of the process."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with replies:
        serve(sys.stdin, replies)


if __name__ == "__main__":
    main()
