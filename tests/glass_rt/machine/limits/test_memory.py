"""Memory as it is given: sizes from text, the limits that hold, and what does not fit."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from glass_rt.errors import OutOfMemory, UsageError
from glass_rt.machine.limits import memory
from glass_rt.machine.limits.cgroup import GroupMemory
from glass_rt.machine.limits.memory import (
    MB,
    MemoryLimit,
    held_bytes,
    memory_from_text,
    memory_limits,
    require_memory,
    smallest_limit,
    tightest,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1g", 1 << 30),
        ("512m", 512 * MB),
        (" 1.5 GiB ", 3 << 29),
        ("1GB", 1 << 30),  # as Docker and Java read it
        ("65536k", 64 * MB),
        ("67108864", 64 * MB),
        ("1t", 1 << 40),
        ("1Gi", 1 << 30),  # as Kubernetes writes it
        ("512 mi", 512 * MB),
        ("67108864b", 64 * MB),
    ],
)
def test_sizes_are_read_as_containers_are_given_them(text: str, size: int) -> None:
    assert memory_from_text(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "g", "1x", "-1g", "1e9", "64", "63m", "0", "1 g g", "i", "1i", "99999999999ib", "50%", "max", "٣g", "1" * 40],
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^memory: got .*; expected a size from 64m on"):
        memory_from_text(text)


@pytest.mark.parametrize("name", [b"a kB", b"caf\xc3", b"VmSize: 1 kB", b"x:y"])
def test_a_process_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: bytes) -> None:
    status = tmp_path / "status"
    status.write_bytes(b"Name:\t" + name + b"\nRssAnon:\t    2048 kB\nRssShmem:\t    1024 kB\nThreads:\t3\n")
    monkeypatch.setattr(memory, "_STATUS", status)
    assert held_bytes() == 3 * MB


def test_a_group_that_does_not_tell_holds_at_least_what_this_process_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_kilobytes", lambda path: {"RssAnon": 30 * MB, "RssShmem": 9 * MB})
    for told, used in ((0, 30 * MB), (20 * MB, 20 * MB), (50 * MB, 50 * MB)):
        monkeypatch.setattr(memory, "group_memory", lambda told=told: GroupMemory(1 << 30, told))
        (group,) = [limit for limit in memory_limits() if "control group" in limit.name]
        assert group.used == used


def test_what_is_asked_for_is_one_of_the_limits() -> None:
    assert {limit.name for limit in memory_limits(1 << 30)} - {limit.name for limit in memory_limits()} == {"--memory"}
    lowest = smallest_limit(100 * MB)
    assert lowest is not None
    assert lowest <= 100 * MB
    limit = tightest(100 * MB)
    assert limit is not None
    assert limit.room <= 100 * MB


def test_a_limit_counts_what_is_held() -> None:
    before = held_bytes()
    with mmap.mmap(-1, 32 * MB) as filler:  # new pages, where a bytearray may get some that malloc holds already
        filler.write(b"x" * len(filler))
        if before:  # the system says what is held
            assert held_bytes() - before > 24 * MB


def test_what_does_not_fit_is_named_with_the_limit_and_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [MemoryLimit("--memory", 100 * MB, 60 * MB), MemoryLimit("ulimit -v", 500 * MB, 400 * MB, addresses=True)]
    monkeypatch.setattr(memory, "memory_limits", lambda asked: tuple(limits))
    require_memory("open it", 30 * MB, 60 * MB)
    with pytest.raises(OutOfMemory, match=r"to open it: that takes about 50 MB, and 40 of 100 MB .* --memory: .*INT8"):
        require_memory("open it", 50 * MB)
    with pytest.raises(OutOfMemory, match=r"about 120 MB, and 100 of 500 MB are left by ulimit -v"):
        require_memory("open it", 20 * MB, 100 * MB)
