"""Several workers on one machine share what it has."""

from __future__ import annotations

import pytest

from glass_rt.bulk import parts
from glass_rt.bulk.parts import share_of
from glass_rt.machine.limits.memory import LEAST_MEMORY, MB
from glass_rt.options import RunOptions


@pytest.mark.parametrize(
    ("limit", "asked", "workers", "threads", "memory"),
    [
        (None, None, 4, 2, None),
        (1000 * MB, None, 4, 2, 250 * MB),
        (1000 * MB, 800 * MB, 4, 2, 250 * MB),
        (1000 * MB, 200 * MB, 4, 2, 200 * MB),  # as asked for
        (100 * MB, None, 8, 1, LEAST_MEMORY),
        (1000 * MB, 800 * MB, 1, None, 800 * MB),  # alone
    ],
)
def test_each_worker_gets_its_part(
    monkeypatch: pytest.MonkeyPatch,
    limit: int | None,
    asked: int | None,
    workers: int,
    threads: int | None,
    memory: int | None,
) -> None:
    monkeypatch.setattr(parts, "usable_cores", lambda: 8)
    monkeypatch.setattr(parts, "smallest_limit", lambda: limit)
    assert share_of(RunOptions(memory=asked), workers) == RunOptions(threads=threads, memory=memory)
    assert share_of(RunOptions(memory=asked, threads=3), workers).threads == 3
