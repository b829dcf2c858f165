"""What a machine must have to run a bundle's engines: noted at build, compared before a library reads a byte."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from glass_rt.bundle.from_json import OneOf
from glass_rt.errors import BundleInvalid, UsageError


@dataclass(frozen=True, order=True)
class Shapes:
    """The batch sizes that one optimisation profile takes, and the one that it is tuned for."""

    low: int
    best: int
    high: int

    def __post_init__(self) -> None:
        if not 1 <= self.low <= self.best <= self.high:
            raise UsageError(f"profile: got {self.low}/{self.best}/{self.high}; expected 1 <= low <= best <= high")


@dataclass(frozen=True)
class Profile:
    """A named set of batch shapes by role: one optimisation profile per entry, in growing order."""

    name: str
    shapes: Mapping[str, tuple[Shapes, ...]]


@dataclass(frozen=True)
class Requirements:
    """The machine that engines were compiled for.

    `library` is the vendor's distribution, `version` the one that built the engines and, for this vendor, the only one
    that reads them. `compute_capabilities` are written as nvidia-smi writes them (`8.9`); `and_later` adds every
    architecture after the newest of them. `driver` is the least NVIDIA driver (`580`) of the library's CUDA. `gpu` is
    the model of GPU that the engines are bound to, by its driver's name; empty where the architecture is enough.
    """

    library: Annotated[str, OneOf(("tensorrt", "tensorrt_rtx"))]
    version: str
    target: str
    compute_capabilities: tuple[str, ...]
    and_later: bool
    driver: str
    gpu: str = ""

    def __post_init__(self) -> None:
        for text in self.compute_capabilities:
            capability(text)
        if self.driver and not _is_number(self.driver):
            raise BundleInvalid(f"driver: got {self.driver!r:.60}; expected a number like 580")

    def runs_on(self, compute_capability: str) -> bool:
        """Whether the engines may run on a GPU of that architecture."""
        if compute_capability in self.compute_capabilities:
            return True
        newest = max(map(capability, self.compute_capabilities), default=(0, 0))
        return self.and_later and capability(compute_capability) > newest


def is_capability(text: str) -> bool:
    """Whether it is written like `8.9`; nvidia-smi writes `[N/A]` on some machines."""
    major, _, minor = text.partition(".")
    return _is_number(major) and _is_number(minor)


def capability(text: str) -> tuple[int, int]:
    """`8.9` -> (8, 9)."""
    if not is_capability(text):
        raise BundleInvalid(f"compute capability: got {text!r:.60}; expected one like 8.9")
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9
