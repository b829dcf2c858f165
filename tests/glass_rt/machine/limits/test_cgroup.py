"""What control groups allow, read from folders that are made like the system's."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from glass_rt.machine.environment import limited_cores, usable_cores
from glass_rt.machine.limits import cgroup
from glass_rt.machine.limits.cgroup import GroupMemory, cpu_quota, group_memory
from glass_rt.machine.limits.memory import memory_limits

MB = 1 << 20
V2 = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "31 23 0:27 {root} /sys/fs/cgroup/{name} rw - cgroup cgroup rw,{name}"


def made(folder: Path, groups: str, mounts: list[str], files: dict[str, str]) -> None:
    """A root folder with /proc/self/cgroup, /proc/self/mountinfo, and files below /sys/fs/cgroup."""
    (folder / "sys/fs/cgroup").mkdir(parents=True)
    texts = {
        "proc/self/cgroup": groups,
        "proc/self/mountinfo": "\n".join(["22 1 8:1 / / rw - ext4 /dev/a rw", *mounts]),
    }
    texts |= {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + "\n")


def stat(anon: int, shmem: int = 0, version: int = 2) -> str:
    names = ("anon", "shmem") if version == 2 else ("total_rss", "total_shmem")
    return f"{names[0]} {anon}\nfile {900 * MB}\n{names[1]} {shmem}\nunread"


CASES = {
    # A container of version 2 with a namespace of its own: it is its own root.
    "container": (
        "0::/",
        [V2.format(root="/")],
        {"cpu.max": "100000 100000", "memory.max": f"{1024 * MB}", "memory.stat": stat(90 * MB, 10 * MB)},
        1.0,
        GroupMemory(1024 * MB, 100 * MB),
    ),
    "no limits": ("0::/", [V2.format(root="/")], {"cpu.max": "max 100000", "memory.max": "max"}, None, None),
    # The group that is tightest holds, be it one around ours.
    "nested": (
        "0::/a/b",
        [V2.format(root="/")],
        {
            "a/b/cpu.max": "max 100000",
            "a/cpu.max": "150000 100000",
            "a/b/memory.max": f"{800 * MB}",
            "a/b/memory.stat": stat(10 * MB),
            "a/memory.max": f"{900 * MB}",
            "a/memory.stat": stat(600 * MB),
        },
        1.5,
        GroupMemory(900 * MB, 600 * MB),
    ),
    # Version 1 in a container without a namespace: the path is from outside, the mount is of that group.
    "version 1": (
        "5:memory:/docker/ab\n4:cpu,cpuacct:/docker/ab\n0::/",
        [
            V1.format(root="/docker/ab", name="memory"),
            V1.format(root="/docker/ab", name="cpu,cpuacct"),
        ],
        {
            "cpu,cpuacct/cpu.cfs_quota_us": "50000",
            "cpu,cpuacct/cpu.cfs_period_us": "100000",
            "memory/memory.limit_in_bytes": f"{512 * MB}",
            "memory/memory.stat": stat(20 * MB, version=1),
        },
        0.5,
        GroupMemory(512 * MB, 20 * MB),
    ),
    # What the kernel keeps for a group goes only with it.
    "kernel": (
        "0::/",
        [V2.format(root="/")],
        {
            "memory.max": f"{100 * MB}",
            "memory.stat": f"anon {30 * MB}\nkernel {9 * MB}\nkernel_stack {MB}\npagetables {2 * MB}\n"
            f"slab_reclaimable {4 * MB}\nslab_unreclaimable {MB}\nsock {MB}\nshmem 0",
        },
        None,
        GroupMemory(100 * MB, 35 * MB),
    ),
    "version 1 without limits": (
        "4:memory:/process\n1:cpu:/",
        [V1.format(root="/", name="memory"), V1.format(root="/", name="cpu")],
        {
            "cpu/cpu.cfs_quota_us": "-1",
            "cpu/cpu.cfs_period_us": "100000",
            "memory/process/memory.limit_in_bytes": "9223372036854771712",
        },
        None,
        None,
    ),
    # Past `memory.high` (MemoryHigh of systemd) the system kills nothing, and nothing gets on.
    "high": (
        "0::/",
        [V2.format(root="/")],
        {"memory.max": f"{900 * MB}", "memory.high": f"{600 * MB}", "memory.stat": stat(MB)},
        None,
        GroupMemory(600 * MB, MB),
    ),
    "only high": (
        "0::/",
        [V2.format(root="/")],
        {"memory.max": "max", "memory.high": f"{MB}"},
        None,
        GroupMemory(MB, 0),
    ),
    # Both paths are escaped in the list of mounts, and not in the list of groups.
    "escaped": (
        r"0::/a\x2db.slice/c",
        [V2.format(root=r"/a\134x2db.slice").replace("fs/cgroup", r"fs/cgroup/with\040space")],
        {
            "with space/c/cpu.max": "50000 100000",
            "with space/cpu.max": "100000 100000",
            "with space/c/memory.max": f"{100 * MB}",
        },
        0.5,
        GroupMemory(100 * MB, 0),
    ),
    "absurd": (
        "0::/",
        [V2.format(root="/")],
        {"cpu.max": "0 0", "memory.max": "9" * 30, "memory.high": "\u00b2", "memory.stat": "anon\nshmem x"},
        None,
        None,
    ),
    "digits of another script": (
        "0::/",
        [V2.format(root="/")],
        {"cpu.max": "\u00b2 100000", "memory.max": "\u00b2"},
        None,
        None,
    ),
    # A path that leads out of what is mounted: the mount is all there is to see.
    "path from outside": ("0::/../../other", [V2.format(root="/")], {"cpu.max": "200000 100000"}, 2.0, None),
    "nonsense": ("0", ["30", "x - cgroup2"], {"cpu.max": "a b", "memory.max": "-"}, None, None),
}


@pytest.mark.parametrize(("groups", "mounts", "files", "quota", "memory"), CASES.values(), ids=CASES)
def test_the_tightest_group_holds(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    groups: str,
    mounts: list[str],
    files: dict[str, str],
    quota: float | None,
    memory: GroupMemory | None,
) -> None:
    made(tmp_path, groups, mounts, files)
    monkeypatch.setattr(cgroup, "ROOT", tmp_path)
    assert cpu_quota() == quota
    assert group_memory() == memory


def test_without_control_groups_there_is_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "ROOT", tmp_path)
    assert cpu_quota() is None
    assert group_memory() is None


@pytest.mark.parametrize("quota", [0.2, 1.0, 1.5, 10_000.0])
def test_cores_follow_the_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: float) -> None:
    monkeypatch.setattr(cgroup, "ROOT", tmp_path / "none")
    cores = usable_cores()
    assert limited_cores() is None
    made(tmp_path, "0::/", [V2.format(root="/")], {"cpu.max": f"{int(quota * 100000)} 100000"})
    monkeypatch.setattr(cgroup, "ROOT", tmp_path)
    assert usable_cores() == min(cores, math.ceil(quota))
    assert limited_cores() == (math.ceil(quota) if math.ceil(quota) < cores else None)


def test_the_group_is_one_of_the_limits_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, *CASES["container"][:3])
    monkeypatch.setattr(cgroup, "ROOT", tmp_path)
    (group,) = [limit for limit in memory_limits() if "control group" in limit.name]
    assert str(group) == "924 of 1024 MB are left by the limit of this control group (container)"
