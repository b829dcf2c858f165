"""The steps of the first hour on a GPU: figures survive failures, and the first steps run where there is no GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from glass_rt.backends.cuda.gpu import GpuError

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def hour(folder: Path, *arguments: str) -> dict[str, Any]:
    path = os.pathsep.join([str(BENCHMARKS), *filter(None, [os.environ.get("PYTHONPATH")])])
    subprocess.run(
        [sys.executable, "-m", "gpu_hour.run", str(folder), *arguments],
        check=True, capture_output=True, env={**os.environ, "PYTHONPATH": path}, cwd=BENCHMARKS.parent,
    )  # fmt: skip
    results: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return results


def test_the_seam_and_the_views_are_tried_on_a_gpu_in_memory(tmp_path: Path) -> None:
    results = hour(tmp_path, "--only", "1,2", "--scale", "0.02")
    assert [step["ended"] for step in results.values()] == [0, 0]
    assert results["1"]["figures"]["calls"]["found"]["kernel_right"] is True
    for shape in results["2"]["figures"]["compared"]["found"].values():
        assert shape["crop_bytes_that_differ"] == 0
        assert shape["global_view_max_levels"] < 0.01


def test_a_step_out_of_time_keeps_what_it_found_and_the_next_is_left_out(tmp_path: Path) -> None:
    results = hour(tmp_path, "--only", "1,2", "--scale", "3", "--deadline", "6")
    assert str(results["1"]["ended"]).startswith("stopped after")
    assert "calls" in results["1"]["figures"]
    assert any("calls" in line for line in results["1"]["last_lines"])
    assert results["2"] == {"ended": "left out: no time"}


def test_a_part_that_fails_is_noted_and_the_step_goes_on(tmp_path: Path) -> None:
    from gpu_hour.record import Record

    def fails() -> None:
        raise ValueError("not today")

    def loses() -> None:
        raise GpuError("cuStreamSynchronize", "ILLEGAL_ADDRESS", lost=True)

    record = Record(tmp_path / "step.json")
    assert record.part("one", fails) is None
    assert record.part("two", lambda: 2) == 2
    with pytest.raises(GpuError):  # nothing after a lost context could work
        record.part("three", loses)
    figures = json.loads((tmp_path / "step.json").read_text())
    assert figures["one"]["failed"] == "ValueError: not today"
    assert figures["two"]["found"] == 2
    assert "restart this process" in figures["three"]["failed"]


def test_repeats_are_median_and_range() -> None:
    from gpu_hour.measure import Spread, gb_per_s, rate_per_s, spread, tflop_per_s

    assert spread([3.00004, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0, 3)
    assert gb_per_s(72e6, 1.5) == 48.0
    assert tflop_per_s(2 * 8192**3, 1.4) == 785.4
    calls = list[int]()
    assert rate_per_s(calls.append, 3, 0.01, least=4) > 0
    assert all(calls.count(thread) >= 5 for thread in range(3)), "one to warm up, and four"


def test_an_error_of_a_thread_is_raised() -> None:
    from gpu_hour.measure import rate_per_s

    def work(thread: int) -> None:
        if thread == 1:
            raise ValueError("thread 1")

    with pytest.raises(ValueError, match="thread 1"):
        rate_per_s(work, 3, 0.01)
