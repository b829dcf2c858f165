"""The simulation judges images from end to end; how fast is for a quiet machine to say."""

from __future__ import annotations

import pytest
from pipeline_simulation import simulated


def test_decoders_and_an_engine_of_sleep_give_verdicts() -> None:
    figures = simulated(4, 0.3, decode_ms=6.0, warm_s=0.2)
    assert figures["limit_images_per_s"] == pytest.approx(500)
    assert 0 < figures["share_of_limit"] <= 1.1
    assert 0 < figures["engine_busy"] < 1
    assert figures["images_a_pack"] >= 1
