"""Records of benchmarks that were never run: contenders with the times that a test gives them."""

from __future__ import annotations

from typing import Any

from glass_bench.measure.machine import Machine
from glass_bench.measure.record import ContenderEntry, ImageEntry, MachineLoad, Record, RunEntry
from glass_bench.measure.systems import Description

MACHINE = Machine("a processor", 2, 16.0, (), None, "Linux", "3.11", {"glass-rt": "0.1.0"}, "abc")


FAST = [[10.0, 20.0], [10.0, 20.0], [10.2, 20.0]]


SLOW = [[20.0, 40.0], [20.2, 40.0], [20.0, 40.4]]


def entry(name: str, times_ms: list[list[float]], role: str = "engine", **changes: Any) -> ContenderEntry:
    """A contender whose SingleStream repeats took `times_ms` on images 0, 1, ...; LoadGen saw 0.1 ms more."""
    runs = tuple(
        RunEntry(
            scenario="single_stream", repeat=number, void=False, failures=0, reasons=(),
            loadgen={"mean_ms": sum(row) / len(row) + 0.1, "p50_ms": sorted(row)[len(row) // 2] + 0.1, "p90_ms": max(row)},
            early_stopping=False, images=tuple(range(len(row))), inside_ms=tuple(row),
            stages_ms=tuple({"decode": 0.25 * value, "engine_local": 0.5 * value} for value in row),
        )
        for number, row in enumerate(times_ms)
    )  # fmt: skip
    description = Description("glass", "zoo", "onnxruntime", "fp32", "cpu", 2, 16, False, "weights", "bundle")
    values: dict[str, Any] = {
        "name": name, "role": role, "kind": "engine", "bundle": name, "sampling": "stratified", "crops": 2, "threads": None,
        "workers": 1, "batch": None, "variant_of": None, "status": "measured", "description": description,
        "peak_mb": 100.0, "runs": runs, **changes,
    }  # fmt: skip
    return ContenderEntry(**values)


def record(*entries: ContenderEntry, foreign: float | None = 0.0) -> Record:
    images = (ImageEntry("a.jpg", 1000, 1000, "jpeg", 5), ImageEntry("b.jpg", 2000, 1000, "jpeg", 9))
    return Record(
        "2026-01-01T00:00:00+00:00", 5.0, "glass-rt bench", MACHINE, MachineLoad(0.1, foreign), {"seed": 1}, "images", images,
        (), (), (), tuple(entries),
    )  # fmt: skip
