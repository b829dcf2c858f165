"""What the steps of the kit share: figures that survive failures, repeated timings, and what is shipped compiled."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from glass_bench.gpu.check import REPOSITORY
from glass_bench.gpu.hour.measure import Spread, gb_per_s, rate_per_s, spread, tflop_per_s
from glass_bench.gpu.hour.record import LeftOut, Record, write_json
from glass_bench.gpu.hour.step2_views import SMS

from glass_rt.backends.cuda.gpu import GpuError


def test_a_part_that_fails_is_noted_and_the_step_goes_on(tmp_path: Path) -> None:
    def fails() -> None:
        raise ValueError("not today")

    def loses() -> None:
        raise GpuError("cuStreamSynchronize", "ILLEGAL_ADDRESS", lost=True)

    def cannot() -> None:
        raise LeftOut("no such tool")

    record = Record(tmp_path / "step.json")
    assert record.part("one", fails) is None
    assert record.part("none", cannot) is None
    assert record.part("two", lambda: 2) == 2
    with pytest.raises(GpuError):  # nothing after a lost context could work
        record.part("three", loses)
    figures = json.loads((tmp_path / "step.json").read_text())
    assert figures["one"]["failed"] == "ValueError: not today"
    assert figures["two"]["found"] == 2
    assert figures["none"] == {"left out": "no such tool"}
    assert "restart this process" in figures["three"]["failed"]


def test_repeats_are_median_and_range() -> None:
    assert spread([3.00004, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0, 3)
    assert gb_per_s(72e6, 1.5) == 48.0
    assert tflop_per_s(2 * 8192**3, 1.4) == 785.4
    calls = list[int]()
    assert rate_per_s(calls.append, 3, 0.01, least=4) > 0
    assert all(calls.count(thread) >= 5 for thread in range(3)), "one to warm up, and four"


def test_a_rate_is_above_0_where_the_threads_are_done_before_they_are_waited_for() -> None:
    for _ in range(50):
        assert rate_per_s(lambda _thread: None, 2, 0.0) > 0


def test_an_error_of_a_thread_is_raised() -> None:
    def work(thread: int) -> None:
        if thread == 1:
            raise ValueError("thread 1")

    with pytest.raises(ValueError, match="thread 1"):
        rate_per_s(work, 3, 0.01)


def test_json_holds_no_numbers_that_others_cannot_read(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [float("nan"), {"b": float("-inf")}, 1.5]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": ["nan", {"b": "-inf"}, 1.5]}


def test_the_kit_compiles_kernels_for_the_architectures_that_are_shipped() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    assert re.findall(r"^SMS := (.*)$", makefile, re.MULTILINE) == [" ".join(map(str, SMS))]
