"""The interface between a scenario and the system that it drives."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

# In the order of the walk of one image. `copy` is what lies around the engines' runs: views in, embeddings out.
STAGES = ("decode", "views", "copy", "engine_global", "engine_local", "aggregate")


@dataclass(frozen=True)
class Description:
    """What a system turned out to be once it was open; `batch` is the most views in one run of an engine."""

    architecture: str
    backbone: str
    backend: str
    precision: str
    device: str
    crops: int
    batch: int
    trained: bool
    weights_sha256: str
    bundle_sha256: str


@dataclass(frozen=True)
class ImageResult:
    """What a system found for one image: a probability, or why there is none.

    `stages_ms`: by the names of STAGES, measured for single images only; `windows`: crops looked at.
    """

    probability_fake: float | None
    error: str | None = None
    stages_ms: Mapping[str, float] | None = None
    windows: int = 0

    @property
    def complaint(self) -> str | None:
        """Its error, or what is wrong with its probability. None where nothing is."""
        if self.error is not None:
            return self.error
        value = self.probability_fake
        if value is None or not math.isfinite(value) or not 0 <= value <= 1:
            return f"the probability is {value}"
        return None


class System(Protocol):
    """A pipeline from an image file to a probability. It belongs to one thread."""

    @property
    def description(self) -> Description:
        """The model, the engines and the device of this system."""

    def judge(self, path: str, crops: int | None = None) -> ImageResult:
        """One image, with its stage times; `crops` overrides the contender's. Errors become part of the result."""

    def judge_many(self, paths: Sequence[str]) -> Iterator[ImageResult]:
        """Images in order, as fast as it can; without stage times."""

    def check(self) -> str | None:
        """Compares the engines with the reference in their bundle: what is wrong with them, or None."""

    def close(self) -> None:
        """Frees the engines."""
