"""How much memory a process has and had, as Linux counts it; None elsewhere, or where it has ended."""

from __future__ import annotations

from pathlib import Path


def resident_mb(pid: int | str = "self") -> float | None:
    """Resident memory now, in MB (10^6 bytes)."""
    return _field_mb(pid, "VmRSS")


def peak_mb(pid: int | str = "self") -> float | None:
    """The most resident memory since the start of the process, in MB."""
    return _field_mb(pid, "VmHWM")


def _field_mb(pid: int | str, name: str) -> float | None:
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{name}:"):
                return round(int(line.split()[1]) * 1024 / 1e6, 1)
    except OSError:
        pass
    return None
