"""How much memory this process may hold, by whatever limits it, and what is left of that."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from glass_rt.errors import OutOfMemory, UsageError
from glass_rt.machine.limits.cgroup import group_memory

resource: ModuleType | None
try:
    import resource
except ImportError:  # Windows
    resource = None

MB = 1 << 20
LEAST_MEMORY = 64 * MB  # that `--memory` takes: less than Python with NumPy and OpenCV
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*(?:([kmgt])i?)?b?", re.IGNORECASE | re.ASCII)
_SIZES = re.compile(r"^(\w+):\s*(\d+) kB$", re.MULTILINE | re.ASCII)  # lines of files in /proc
_LIBRARIES = 512 * MB  # of addresses: Python, NumPy, OpenCV and a vendor's library, with their threads
_STATUS = Path("/proc/self/status")
_MEMINFO = Path("/proc/meminfo")


def size_from_text(text: str) -> int | None:
    """Bytes that a text such as `1g`, `1.5 GiB`, `1Gi` or `4096` means, by powers of 1024; None where it is no size."""
    found = _SIZE.fullmatch(text.strip())
    return int(float(found[1]) * _UNITS[(found[2] or "").lower()]) if found else None


def memory_from_text(text: str) -> int:
    """The value of `--memory`, in bytes. Raises UsageError."""
    size = size_from_text(text) or 0
    if size < LEAST_MEMORY:
        raise UsageError(
            f"memory: got {text[:40]!r}; expected a size from {LEAST_MEMORY // MB}m on, such as 512m or 1g"
        )
    return size


@dataclass(frozen=True)
class MemoryLimit:
    """One limit on memory: `name` says what sets it, `limit` and `used` are bytes.

    `addresses`: it counts what is mapped, whether it is in memory or not.
    """

    name: str
    limit: int
    used: int
    addresses: bool = False

    @property
    def room(self) -> int:
        """Bytes that are left."""
        return max(0, self.limit - self.used)

    def __str__(self) -> str:
        return f"{self.room // MB} of {self.limit // MB} MB are left by {self.name}"


def memory_limits(asked: int | None = None) -> tuple[MemoryLimit, ...]:
    """Every limit that holds now, `asked` among them: bytes that the user lets this process hold.

    This machine's own memory is one: of it counts what this process holds. Empty where the system says nothing.
    """
    return tuple(_limits(asked))


def tightest(asked: int | None = None) -> MemoryLimit | None:
    """The limit that leaves least; None where none is known."""
    return min(memory_limits(asked), key=lambda limit: limit.room, default=None)


def smallest_limit(asked: int | None = None) -> int | None:
    """The lowest limit in bytes, whatever is in use; None where none is known. Of addresses, libraries take some."""
    return min(
        (limit.limit - _LIBRARIES if limit.addresses else limit.limit for limit in memory_limits(asked)), default=None
    )


def addresses_are_limited() -> bool:
    """Whether this process may map only so much (`ulimit -v`)."""
    return any(limit.addresses for limit in memory_limits())


def require_memory(what: str, resident: int, mapped: int = 0, asked: int | None = None) -> None:
    """Raises OutOfMemory where a limit leaves less than it takes to do `what`, such as `open the engines`.

    `resident`: bytes that will be in memory. `mapped`: bytes of addresses beyond these, such as a library's.
    """
    for limit in memory_limits(asked):
        needed = resident + mapped if limit.addresses else resident
        if limit.room < needed:
            raise OutOfMemory(f"{what}: that takes about {max(1, needed // MB)} MB, and {limit}")


def held_bytes() -> int:
    """What this process holds in memory and cannot give back; 0 where the system does not say."""
    return _held(_kilobytes(_STATUS))


def _held(status: dict[str, int]) -> int:
    return status.get("RssAnon", 0) + status.get("RssShmem", 0)


def _limits(asked: int | None) -> Iterator[MemoryLimit]:
    status = _kilobytes(_STATUS)
    resident, anonymous = _held(status), status.get("RssAnon", 0)
    if asked is not None:
        yield MemoryLimit("--memory", asked, resident)
    if (group := group_memory()) is not None:
        # A group whose figures cannot be read holds at least what this process does.
        yield MemoryLimit("the limit of this control group (container)", group.limit, group.used or anonymous)
    if total := _machine_memory():
        yield MemoryLimit("this machine's memory (what other programs hold is not counted)", total, resident)
    if resource is not None and sys.platform == "linux":
        for kind, name, used in (
            (resource.RLIMIT_AS, "the limit on addresses (ulimit -v)", status.get("VmSize", 0)),
            (resource.RLIMIT_DATA, "the limit on data (ulimit -d)", status.get("VmData", 0)),
        ):
            if (soft := resource.getrlimit(kind)[0]) != resource.RLIM_INFINITY:
                yield MemoryLimit(name, soft, used, addresses=kind == resource.RLIMIT_AS)


@cache
def _machine_memory() -> int:
    return _kilobytes(_MEMINFO).get("MemTotal", 0)


def _kilobytes(path: Path) -> dict[str, int]:
    """Lines such as `VmSize:  123 kB` of a file of /proc, in bytes; {} where it cannot be read."""
    try:
        content = path.read_text(encoding="ascii", errors="replace")  # the name of a process may be any bytes
    except OSError:
        return {}
    return {name: int(number) << 10 for name, number in _SIZES.findall(content)}
