"""What a contender is, in values that travel to the process that measures it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from glass_rt.errors import UsageError

Kind = Literal["engine", "pytorch", "no-op"]
KINDS = ("engine", "pytorch", "no-op")
AUTOCASTS = ("fp32", "bf16")


@dataclass(frozen=True)
class Contender:
    """One contender and how it is run.

    `kind`: `engine` is a bundle run by glass-rt; `pytorch` is the authors' pipeline of the same model (Pillow, a float
    tensor of the whole image, eager modules); `no-op` is glass-rt's pipeline around engines that do nothing. `bundle`
    says which model, for all three. `precision`: the bundle's own, or for `pytorch` fp32 (eager) or bf16 (autocast).
    `crops` None: as trained. `workers`: detectors side by side in the process, sharing `threads` and `memory`
    (bytes; of glass-rt's own alone). `device`: where glass-rt's own engines run, as text. `checkpoint`: where `pytorch`
    finds trained weights.
    """

    name: str
    kind: Kind
    bundle: str
    precision: str = "fp32"
    crops: int | None = None
    sampling: Literal["stratified", "tiles"] = "stratified"
    device: str | None = None
    batch: int | None = None
    threads: int | None = None
    memory: int | None = None
    workers: int = 1
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"contender {self.name}: got kind {self.kind!r}; expected one of {', '.join(KINDS)}")
        if self.kind == "pytorch" and self.precision not in AUTOCASTS:
            raise UsageError(f"contender {self.name}: PyTorch runs in {' or '.join(AUTOCASTS)}, not {self.precision}")
        if self.workers < 1:
            raise UsageError(f"workers: got {self.workers}; at least one is needed")

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Contender:
        """From the values that `to_json` gave."""
        return cls(**values)
