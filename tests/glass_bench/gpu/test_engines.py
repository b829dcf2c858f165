"""What of step 8 does not need a GPU: whole verdicts against PyTorch, and how times of parts are gathered."""

from __future__ import annotations

from typing import Any

import pytest
from glass_bench.gpu.engines import Sizes, stage_medians
from glass_bench.gpu.verdicts import IMAGES, ragged_verdicts

from glass_rt.backends.trt.lane import GpuStageTimes
from glass_rt.errors import UsageError
from glass_rt.inference.head import Head
from tests.support import Bundles

pytestmark = pytest.mark.slow


def test_verdicts_of_a_ragged_pack_are_pytorchs(bundles: Bundles) -> None:
    found = ragged_verdicts(bundles("mobilenet_v3_small").folder)
    assert len(found["difference of P(fake)"]) == len(IMAGES)
    assert found["largest difference"] <= found["allowed"] < 1e-3


def test_a_verdict_that_is_not_pytorchs_fails_the_step(bundles: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Head.judge
    monkeypatch.setattr(Head, "judge", lambda head, whole, crops: right(head, whole, crops[::-1] * 1.05))
    with pytest.raises(AssertionError, match=r"verdicts are not PyTorch's: P\(fake\) differs by"):
        ragged_verdicts(bundles("mobilenet_v3_small").folder, IMAGES[:2])


def test_views_on_the_device_are_asked_for(bundles: Bundles) -> None:
    with pytest.raises(UsageError, match="onnxruntime engines read views from memory"):
        ragged_verdicts(bundles("mobilenet_v3_small").folder, views="device")


def test_medians_are_taken_part_by_part() -> None:
    class Engine:
        def __init__(self) -> None:
            self.runs = 0

        def stage_times(self, _feeds: Any) -> GpuStageTimes:
            self.runs += 1
            return GpuStageTimes(1.0 if self.runs > 5 else 99.0, self.runs % 3, 4.0, 0.5)

    engine = Engine()
    assert stage_medians(engine, None, Sizes()) == {"stage": 1.0, "copy_in": 1.0, "compute": 4.0, "copy_out": 0.5}
    assert engine.runs == 35
