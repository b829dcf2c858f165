"""The interface between `glass-rt build` and one vendor's builder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from glass_rt.bundle.requirements import Profile, Requirements
from glass_rt.errors import BuildError, GlassError, OutOfMemory, vendor_failure

TENSORRT = ("tensorrt", "tensorrt_rtx")


@dataclass(frozen=True)
class Compiler:
    """One vendor's compiler: which precisions it builds, for which device, and how.

    `compile(graph, engine)` writes the engine file, which is named after its role. `max_batch` overrules the caller's
    where batch sizes are part of the engine. `runs_here` False: the engine cannot be tried on this machine.
    `narrows` are the precisions that are made from the float32 graph, by the runtime or by quantising it; the others
    need a graph of their own.
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
    narrows: tuple[str, ...] = ()

    def graph_precision(self, precision: str) -> str:
        """Precision of the portable graph that an engine of `precision` is compiled from."""
        return "fp32" if precision in self.narrows else precision


def compile_failure(library: str, graph: Path, error: Exception) -> GlassError:
    """BuildError for what a vendor's compiler raised, or OutOfMemory, with the library's reason."""
    failure = vendor_failure(library, f"compile {graph.name}", error)
    return failure if isinstance(failure, OutOfMemory) else BuildError(str(failure))
