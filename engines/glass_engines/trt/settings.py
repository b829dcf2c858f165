"""The options of a TensorRT build."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from glass_rt.errors import UsageError


@dataclass(frozen=True)
class TrtSettings:
    """`None` leaves a choice to the profile.

    `profile`: a name among those shipped, or a TOML file. `target`: see `Library.requirements`. `workspace_mb`: most
    scratch memory of a kernel. `optimisation_level`: 0..5, the vendor's. `tf32`: let float32 products lose 13 bits.
    `cache`: folder of built engines and timings (None: no cache).
    """

    profile: str | None = None
    target: str = "default"
    max_batch: int | None = None
    workspace_mb: int | None = None
    optimisation_level: int | None = None
    tf32: bool = False
    cache: Path | None = None

    def __post_init__(self) -> None:
        if self.workspace_mb is not None and self.workspace_mb < 1:
            raise UsageError(f"workspace: got {self.workspace_mb} MB; expected at least 1")
        if self.optimisation_level is not None and not 0 <= self.optimisation_level <= 5:
            raise UsageError(f"optimisation level: got {self.optimisation_level}; expected 0..5")
