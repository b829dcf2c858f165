"""What the report says beside its tables."""

from dataclasses import replace

import pytest
from glass_bench.measure.record import ProbeEntry, ServerEntry
from glass_bench.report.report import markdown

from tests.glass_bench.records import FAST, entry, record


@pytest.mark.parametrize(("backend", "said"), [("tensorrt_rtx", True), ("onnxruntime", False)])
def test_the_report_says_whose_engines_would_overlap_elsewhere(backend: str, said: bool) -> None:
    glass = entry("glass", FAST)
    assert glass.description is not None
    text = markdown(record(replace(glass, description=replace(glass.description, backend=backend))))
    assert ("TensorRT's two engines run one after the other here" in text) == said


def test_the_report_says_that_the_server_scenario_is_not_the_server() -> None:
    found = ServerEntry(50.0, 99.0, 100, 3.0, (ProbeEntry(3.0, 40.0, True, True, 0),))
    assert "one image at a time, without the server's batching" in markdown(record(entry("glass", FAST, server=found)))


def test_the_report_says_so_where_repeats_differ_or_the_machine_was_busy() -> None:
    noisy = [[10.0, 20.0], [15.0, 30.0]]
    text = markdown(record(entry("glass", noisy), entry("quiet", FAST), foreign=0.5))
    assert "repeats differ too much for a precise latency (over 5%): glass (40%)" in text
    assert "~19 ms (spread 40%)" in text
    assert "quiet (" not in text
    assert "The machine did other work meanwhile: 50%" in text
    assert "The two sides' weights are untrained" in text
