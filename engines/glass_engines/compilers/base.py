"""The interface between `glass-rt build` and one vendor's builder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from glass_engines.int8.quantise import quantised_from_onnx
from glass_rt.bundle.requirements import Profile, Requirements
from glass_rt.errors import BuildError, GlassError, OutOfMemory, vendor_failure

TENSORRT = ("tensorrt", "tensorrt_rtx")
EXACT = "fp32"
Quantise = Callable[[Path, NDArray[Any], Path], None]


@dataclass(frozen=True)
class Compiler:
    """One vendor's compiler: which precisions it builds, for which device, and how.

    `compile(graph, engine)` writes the engine file, which is named after its role. `max_batch` overrules the caller's
    where batch sizes are part of the engine. `runs_here` False: the engine cannot be tried on this machine.
    `narrows` maps precisions that are made from another one's graph, by the runtime or by quantising it, to that one;
    the others need a graph of their own. `quantise(graph, views, output)` does it for INT8.
    """

    precisions: tuple[str, ...]
    device: str
    suffix: str
    compile: Callable[[Path, Path], None]
    tools: Callable[[], Mapping[str, str]]
    max_batch: int | None = None
    requirements: Requirements | None = None
    profile: Profile | None = None
    runs_here: bool = True
    narrows: Mapping[str, str] = field(default_factory=dict)
    quantise: Quantise = quantised_from_onnx

    def graph_precision(self, precision: str) -> str:
        """Precision of the portable graph that an engine of `precision` is compiled from."""
        return self.narrows.get(precision, precision)

    def graph_precisions(self, precision: str) -> tuple[str, ...]:
        """Precisions of all portable graphs that the build needs: INT8 is compared with float32."""
        needed = (EXACT, self.graph_precision(precision)) if precision == "int8" else (self.graph_precision(precision),)
        return tuple(dict.fromkeys(needed))


def compile_failure(library: str, graph: Path, error: Exception) -> GlassError:
    """BuildError for what a vendor's compiler raised, or OutOfMemory, with the library's reason."""
    failure = vendor_failure(library, f"compile {graph.name}", error)
    return failure if isinstance(failure, OutOfMemory) else BuildError(str(failure))
