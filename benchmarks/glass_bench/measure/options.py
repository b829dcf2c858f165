"""What a benchmark is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from glass_rt.errors import UsageError

SCENARIOS = ("single", "offline", "server")
SWEEPS = ("crops", "size", "batch", "workers")
BUDGET_S, QUICK_BUDGET_S = 330.0, 16.0
# How the time is shared out; what a part does not use is not given to another, so that figures do not depend on it.
SHARES = {"single": 0.36, "offline": 0.16, "variants": 0.10, "crops": 0.13, "size": 0.10, "server": 0.15}


@dataclass(frozen=True)
class BenchOptions:
    """Every field has the meaning of the command-line option of its name.

    `budget_s` is the time for measuring; opening the contenders comes on top. `checkpoints`: trained weights for the
    PyTorch contenders, matched to bundles by file name, or the only one that was given; weights that are not the
    bundle's are refused when they are opened. `same_training`: the two sides were trained on the same data, so that
    what the difference buys may be compared too.
    """

    engines: tuple[Path, ...]
    images: Path
    baselines: tuple[Path, ...] = ()
    checkpoints: tuple[Path, ...] = ()
    quick: bool = False
    budget_s: float = BUDGET_S
    repeats: int = 5
    scenarios: tuple[str, ...] = SCENARIOS
    sweeps: tuple[str, ...] = SWEEPS
    pytorch: bool = True
    tiles: bool = True
    noop: bool = True
    crops: int | None = None
    device: str | None = None
    batch: int | None = None
    threads: int | None = None
    memory: int | None = None
    batches: tuple[int, ...] = (1, 4, 16)
    workers: tuple[int, ...] = (1, 2)
    crop_counts: tuple[int, ...] = tuple(range(1, 17))
    megapixels: tuple[float, ...] = (1, 2, 5, 12, 24, 50)
    bound_ms: float | None = None
    percentile: float = 99.0
    same_training: bool = False
    seed: int = 606
    shares: dict[str, float] = field(default_factory=lambda: dict(SHARES))

    def __post_init__(self) -> None:
        if not self.engines:
            raise UsageError("engine: at least one bundle is needed")
        if self.repeats < 1:
            raise UsageError(f"repeats: got {self.repeats}; at least one is needed")
        if self.budget_s <= 0:
            raise UsageError(f"budget: got {self.budget_s:g}; expected seconds")
        if self.percentile not in (50, 90, 95, 97, 99, 99.9):
            raise UsageError(f"percentile: got {self.percentile:g}; LoadGen reports 50, 90, 95, 97, 99 and 99.9")
        for name, given, known in (("scenario", self.scenarios, SCENARIOS), ("sweep", self.sweeps, SWEEPS)):
            if unknown := [item for item in given if item not in known]:
                raise UsageError(f"{name}: got {unknown[0]!r}; expected some of {', '.join(known)}")

    def share_s(self, part: str) -> float:
        """Seconds for one part of the measuring."""
        return self.budget_s * self.shares[part]


def quick(options: BenchOptions) -> BenchOptions:
    """The same question in under a minute: fewer contenders, fewer crops, no sizes, no rates."""
    values = {
        **vars(options),
        "quick": True,
        "budget_s": min(options.budget_s, QUICK_BUDGET_S),
        "repeats": min(options.repeats, 3),
        "scenarios": tuple(name for name in options.scenarios if name != "server"),
        "sweeps": tuple(name for name in options.sweeps if name == "crops"),
        "pytorch": False,
        "tiles": False,
        "crop_counts": (1, 2, 4, 8),
        "shares": {**SHARES, "single": 0.45, "offline": 0.25, "crops": 0.3},
    }
    return BenchOptions(**values)
