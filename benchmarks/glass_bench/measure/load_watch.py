"""What else the machine did during a measurement, as far as the system tells."""

from __future__ import annotations

from glass_bench.measure.machine import cpu_busy_ticks, load_average, own_cpu_s
from glass_bench.measure.record import MachineLoad


class LoadWatch:
    """Begins to watch when it is made."""

    def __init__(self) -> None:
        self._average, self._ticks, self._own_s = load_average(), cpu_busy_ticks(), own_cpu_s()

    def finish(self) -> MachineLoad:
        """The load average before, and the share of the busy time since that was not this process's family's."""
        return MachineLoad(self._average, foreign_share(self._ticks, cpu_busy_ticks(), own_cpu_s() - self._own_s))


def foreign_share(before: tuple[int, int] | None, after: tuple[int, int] | None, own_s: float) -> float | None:
    """The share of the busy time between two readings of `cpu_busy_ticks` that `own_s` does not explain."""
    if before is None or after is None or own_s <= 0:
        return None
    busy_s = (sum(after) - sum(before)) / 100  # USER_HZ is 100 on every Linux that has /proc/stat
    return None if busy_s <= 0 else min(1.0, max(0.0, 1 - own_s / busy_s))
