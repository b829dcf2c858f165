"""The seam between the runtime and a vendor's inference library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from glass_rt.errors import BackendError

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and shape of an engine's input or output; None is a free dimension."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sizes = ", ".join("N" if size is None else str(size) for size in self.shape)
        return f"{self.name} ({sizes}) {self.dtype}"


class Backend(Protocol):
    """One opened engine. It belongs to one worker: `run` is not called from two threads at once."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The tensors that `run` takes."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The tensors that `run` returns."""

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Runs the engine once. The returned arrays are the caller's. Raises BackendError."""

    def close(self) -> None:
        """Frees the engine; calling it twice is harmless."""


@runtime_checkable
class Submits(Protocol):
    """Optional capability of a backend: asynchronous submission of a batch of any size."""

    def submit(self, feeds: Mapping[str, Array]) -> Callable[[], dict[str, Array]]:
        """Starts a run over feeds of any batch size; the function returned waits for it. Raises BackendError."""


@runtime_checkable
class Warms(Protocol):
    """Optional capability of a backend: to do before the first image what each batch size costs at its first run."""

    def warm(self) -> int:
        """Runs every batch size, within a time of its own; returns how many it did not come to. Raises BackendError."""


def check_feeds(inputs: tuple[TensorSpec, ...], feeds: Mapping[str, Array]) -> None:
    """Compares names, dtypes and shapes with what the engine takes; raises BackendError for the first that differs."""
    for spec in inputs:
        array = feeds.get(spec.name)
        if array is None:
            raise BackendError(f"{spec.name}: missing; the engine takes {', '.join(map(str, inputs))}")
        fits = len(array.shape) == len(spec.shape) and all(
            want in (None, got) for want, got in zip(spec.shape, array.shape, strict=True)
        )
        if array.dtype != spec.dtype or not fits:
            raise BackendError(f"{spec.name}: got {array.shape} {array.dtype}; this engine takes {spec}")
    if extra := set(feeds) - {spec.name for spec in inputs}:
        raise BackendError(f"{', '.join(sorted(extra))}: not an input; the engine takes {', '.join(map(str, inputs))}")


Floats: TypeAlias = NDArray[np.float32]
