"""What of step 8 does not need a GPU: verdicts against PyTorch, how times of parts are gathered, builds and the soak."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from glass_bench.gpu import engines
from glass_bench.gpu.engines import Sizes, soak, stage_medians
from glass_bench.gpu.verdicts import IMAGES, ragged_verdicts

from glass_rt.backends.trt.lane import GpuStageTimes
from glass_rt.errors import UsageError
from glass_rt.inference.head import Head
from tests.fake_gpu import FakeGpu
from tests.fake_trt import SIZE, Bench
from tests.support import Bundles


@pytest.mark.slow
def test_verdicts_of_a_ragged_pack_are_pytorchs(bundles: Bundles) -> None:
    found = ragged_verdicts(bundles("mobilenet_v3_small").folder)
    assert len(found["difference of P(fake)"]) == len(IMAGES)
    assert found["largest difference"] <= found["allowed"] < 1e-3


@pytest.mark.slow
def test_a_verdict_that_is_not_pytorchs_fails_the_step(bundles: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Head.judge
    monkeypatch.setattr(Head, "judge", lambda head, whole, crops: right(head, whole, crops[::-1] * 1.05))
    with pytest.raises(AssertionError, match=r"verdicts are not PyTorch's: P\(fake\) differs by"):
        ragged_verdicts(bundles("mobilenet_v3_small").folder, IMAGES[:2])


@pytest.mark.slow
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


def test_the_soak_begins_when_every_batch_size_has_run_on_both_lanes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where warming up had no time for them too: else their memory would count as lost."""
    gpu, prepared = FakeGpu(), list[tuple[int, int]]()
    engine = Bench(tmp_path).open(gpu)
    memory = gpu.memory

    def asked() -> tuple[int, int]:
        contexts = engine._prepared.values()
        prepared.append((len(contexts), sum(one.graph is not None for one in contexts)))
        return memory()

    @contextmanager
    def opened(_path: Path) -> Iterator[Any]:
        manifest = SimpleNamespace(engine=SimpleNamespace(max_batch=16), model=SimpleNamespace(crop_size=SIZE))
        yield SimpleNamespace(manifest=manifest), {"local": engine}

    gpu.memory = asked  # type: ignore[method-assign]
    gpu.close = lambda: None  # type: ignore[method-assign]
    monkeypatch.setattr(engines, "_opened", opened)
    monkeypatch.setattr(engines, "open_device", lambda: gpu)
    monkeypatch.setattr(engines, "warm_up", lambda _engines: None)
    soak(tmp_path, 30, Sizes(warm_ups=1))
    before, after = prepared
    assert before == after
    assert before[0] == before[1] == 6, "1, 2 and 4 views, on two lanes, captured"


@pytest.mark.parametrize(("backend", "effort"), [("tensorrt", ["2"]), ("tensorrt_rtx", []), ("onnxruntime", [])])
def test_a_build_fits_into_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, effort: list[str]
) -> None:
    """TensorRT measures kernels: at the levels that profiles have, for longer than a step may take."""
    given: list[str] = []

    def command(*arguments: str) -> dict[str, Any]:
        given.extend(arguments)
        return dict.fromkeys(("engine", "parity", "precision_report", "tools"))

    monkeypatch.setattr(engines, "_command", command)
    engines._build("vit_b16", backend, tmp_path / "bundle", Sizes())
    levels = [level for option, level in pairwise(given) if option == "--optimisation-level"]
    assert levels == effort
    assert "--no-cache" in given
