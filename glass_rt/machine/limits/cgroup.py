"""The CPU and memory limits of the control groups that Linux put this process in, such as a container's.

Groups nest, and each limits all that is in it: the tightest one holds. Versions 1 and 2 are read, and a system that
mounts both.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

ROOT = Path("/")  # of the file system; tests name a folder
_LIMITS = {  # files of a group, by version
    1: ("memory.limit_in_bytes",),
    2: ("memory.max", "memory.high"),  # past the second the system kills no process, and slows all down to a crawl
}
_USED = {  # lines of memory.stat, by version
    1: ("total_rss", "total_shmem"),
    2: ("anon", "shmem", "kernel_stack", "pagetables", "percpu", "sock", "slab_unreclaimable"),
}
_NUMBER = re.compile(r"[0-9]{1,20}")
_ESCAPE = re.compile(
    r"\\([0-7]{3})"
)  # a space in a mount's path is \040; units of systemd have backslashes in their names
_NO_LIMIT = 1 << 60  # version 1 writes the largest number that it has


@dataclass(frozen=True)
class GroupMemory:
    """The memory of one control group, in bytes: its limit, and what of it cannot be taken back (no file cache)."""

    limit: int
    used: int


@dataclass(frozen=True)
class _Controller:
    """A controller of one version: the folders of this process's groups, innermost first."""

    version: int
    groups: tuple[Path, ...]


def cpu_quota() -> float | None:
    """The CPUs that this process may keep busy, such as 1.5; None where no group limits them."""
    found = []
    for controller in _controllers("cpu", ROOT):
        for group in controller.groups:
            if controller.version == 2:
                first, _, second = _text(group / "cpu.max").partition(" ")
            else:
                first, second = _text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")
            quota, period = _number(first), _number(second)
            if quota is not None and period:
                found.append(quota / period)
    return min(found, default=None)


def group_memory() -> GroupMemory | None:
    """The memory of the group that has least left; None where no group limits it."""
    found = []
    for controller in _controllers("memory", ROOT):
        for group in controller.groups:
            numbers = [_number(_text(group / name)) for name in _LIMITS[controller.version]]
            limit = min((number for number in numbers if number is not None), default=_NO_LIMIT)
            if limit < _NO_LIMIT:
                found.append(GroupMemory(limit, _used(group, controller.version)))
    return min(found, key=lambda memory: memory.limit - memory.used, default=None)


def _used(group: Path, version: int) -> int:
    """Anonymous and shared memory, and what the kernel keeps for it; the cache of files goes when memory is short.

    Version 1 does not tell which of the kernel's memory goes then: it counts none, which is 1 MB for a process.
    """
    texts = dict(line.split(" ", 1) for line in _text(group / "memory.stat").splitlines() if " " in line)
    return sum(_number(texts.get(name, "")) or 0 for name in _USED[version])


@cache  # a process stays in its groups, and this is asked for with every image
def _controllers(name: str, root: Path) -> tuple[_Controller, ...]:
    """Where the controller is mounted, in both versions."""
    return tuple(_found_controllers(name, root))


def _found_controllers(name: str, root: Path) -> Iterator[_Controller]:
    mounts = list(_mounts(root))
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, names, path = (*line.split(":", 2), "", "")[:3]
        version = 1 if names else 2
        if names and name not in names.split(","):
            continue
        for mount in mounts:
            if mount.version == version and (version == 2 or name in mount.options):
                yield _Controller(version, tuple(_groups(mount, path)))


@dataclass(frozen=True)
class _Mount:
    version: int
    root: str  # the group that is seen at `point`
    point: Path
    options: frozenset[str]


def _mounts(root: Path) -> Iterable[_Mount]:
    """The mounts of control groups, as in proc_pid_mountinfo(5)."""
    for line in _text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) >= 5 and len(kinds) >= 3 and kinds[0] in ("cgroup", "cgroup2"):
            group, point = _ESCAPE.sub(_character, fields[3]), _ESCAPE.sub(_character, fields[4])
            version = 1 if kinds[0] == "cgroup" else 2
            yield _Mount(version, group, root / point.lstrip("/"), frozenset(kinds[2].split(",")))


def _character(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 8))


def _groups(mount: _Mount, path: str) -> Iterator[Path]:
    """The folder of the group `path` and those around it, as far as they are to be seen.

    A container often sees its own group alone, mounted, and is told a path from outside: then it is the mount's root.
    """
    group, root = PurePosixPath(path), PurePosixPath(mount.root)
    inside = group.relative_to(root) if group.is_relative_to(root) else PurePosixPath()
    if ".." in inside.parts:
        inside = PurePosixPath()
    for part in (inside, *inside.parents):
        folder = mount.point / part
        if os.path.isdir(folder):
            yield folder


def _number(text: str) -> int | None:
    """A whole number of the system's; None for `max`, -1, or nothing."""
    return int(text) if _NUMBER.fullmatch(text) else None


def _text(path: Path) -> str:
    """The file's content; nothing where it is not there or may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
