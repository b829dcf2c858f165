"""The simulation judges images from end to end; how fast is for a quiet machine to say."""

from __future__ import annotations

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_decoders_and_an_engine_of_sleep_give_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from pipeline_simulation import simulated

    figures = simulated(4, 0.3, decode_ms=6.0, warm_s=0.2)
    assert figures["limit_images_per_s"] == pytest.approx(500)
    assert figures["images_per_s"] > 0
    assert figures["engine_busy"] > 0
    assert figures["images_a_pack"] >= 1
