"""Where a run stands: all that a checkpoint holds beside weights and optimiser."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class State:
    """Counters of a run. `loss_sum` is over the steps of the epoch at work.

    `best_epoch` counts from 1; 0: no epoch is best yet. `failed`: images that could not be read while training, with
    the reason. `finished`: nothing is left to train. `seconds`: of training, over all its sessions.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    best_epoch: int = 0
    best_rank: list[float] = field(default_factory=list)
    best_tiers: dict[str, dict[str, float]] = field(default_factory=dict)
    waited: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    images: int = 0
    seconds: float = 0.0
    finished: str = ""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> State:
        """What `to_dict` gave. Raises TypeError for values of other names or types."""
        state = cls(**values)
        for name, default in vars(cls()).items():
            if type(values.get(name, default)) is not type(default):
                raise TypeError(f"{name} is {values[name]!r:.40}")
        return state

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
