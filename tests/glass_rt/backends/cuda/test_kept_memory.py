"""Memory that is kept for packs of the same size stays within its bounds, on a GPU in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import pytest

from glass_rt.backends.cuda.gpu import DeviceBuffer, GpuOutOfMemory
from glass_rt.backends.cuda.kept_memory import KeptMemory
from tests.fake_gpu import FakeGpu

Kept: TypeAlias = "KeptMemory[DeviceBuffer]"


@pytest.fixture
def gpu() -> Iterator[FakeGpu]:
    gpu = FakeGpu(1000)
    yield gpu
    assert gpu.live == {}


def taken(memory: Kept, *sizes: int) -> list[DeviceBuffer]:
    pieces = [memory.take(size) for size in sizes]
    assert all(piece is not None and piece.nbytes == size for piece, size in zip(pieces, sizes, strict=True))
    return [piece for piece in pieces if piece is not None]


def closed(memory: Kept) -> None:
    for _ in range(2):
        memory.close()


@pytest.mark.parametrize(
    ("idle", "asked", "left"),
    [
        ((100, 100), 100, 200),  # one of them
        ((100,), 300, 400),
        ((100, 200, 150), 300, 650),  # 450 idle, of which 350 may be: the one that was longest idle goes
        ((300, 100, 150), 200, 450),
        ((350,), 900, 900),  # the device has no room for both
    ],
)
def test_idle_memory_is_bounded_and_makes_room(gpu: FakeGpu, idle: tuple[int, ...], asked: int, left: int) -> None:
    memory = KeptMemory(gpu, gpu.allocate, 1 << 40, most_idle=350)
    for piece in taken(memory, *idle):
        memory.give_back(piece)
    taken(memory, asked)
    with gpu.current():
        assert gpu.memory()[1] - gpu.memory()[0] == left
    closed(memory)


def test_what_is_in_use_makes_no_room(gpu: FakeGpu) -> None:
    memory = KeptMemory(gpu, gpu.allocate, 1 << 40)
    taken(memory, 600)
    with pytest.raises(GpuOutOfMemory):
        memory.take(600)
    taken(memory, 400)
    closed(memory)


def test_memory_of_other_sizes_gives_way_within_the_bound_of_all(gpu: FakeGpu) -> None:
    memory = KeptMemory(gpu, gpu.allocate, 500)
    first, second = taken(memory, 200, 250)
    assert memory.take(100) is None, "both are in use"
    memory.give_back(first)
    third = taken(memory, 240)
    memory.give_back(second)
    memory.hold_no_more()
    assert memory.take(300) is None
    memory.give_back(*third)
    taken(memory, 100, 110)
    closed(memory)


def test_what_is_given_back_after_closing_is_not_freed_again(gpu: FakeGpu) -> None:
    memory = KeptMemory(gpu, gpu.allocate, 500)
    (piece,) = taken(memory, 100)
    closed(memory)
    memory.give_back(piece)
    closed(memory)
    assert gpu.live == {}


def test_what_is_in_use_may_be_freed_when_it_is_given_back(gpu: FakeGpu) -> None:
    memory, ended = KeptMemory(gpu, gpu.allocate, 500), list[str]()
    idle, first, second = taken(memory, 100, 110, 120)
    memory.give_back(idle)
    memory.close_unused(lambda: ended.append("after the last"))
    assert gpu.live == {"device": 2}
    memory.give_back(first)
    assert ended == []
    memory.give_back(second)
    assert (gpu.live, ended) == ({}, ["after the last"])
    nothing: Kept = KeptMemory(gpu, gpu.allocate, 500)
    nothing.close_unused(lambda: ended.append("at once"))
    assert ended[1:] == ["at once"]
