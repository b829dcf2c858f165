"""How much memory this process has and had, as Linux counts it; None elsewhere."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def resident_mb() -> float | None:
    """Resident memory now, in MB (10^6 bytes)."""
    return _field_mb("VmRSS")


def peak_mb() -> float | None:
    """The most resident memory since the start of the process or the last `reset_peak`, in MB."""
    return _field_mb("VmHWM")


def reset_peak() -> None:
    """Lets the peak begin again at what is resident now (proc(5), clear_refs, value 5)."""
    with suppress(OSError):
        _CLEAR.write_text("5", encoding="ascii")


def _field_mb(name: str) -> float | None:
    try:
        for line in _STATUS.read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{name}:"):
                return round(int(line.split()[1]) * 1024 / 1e6, 1)
    except OSError:
        pass
    return None
