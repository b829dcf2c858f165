"""Engines that can be left to themselves: one pack is computed while the one before is concluded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glass_rt.bundle.bundle import Bundle
from glass_rt.errors import BackendError
from glass_rt.inference import decoding_room
from glass_rt.inference import pipeline as module
from glass_rt.inference.decoding_room import decoding_budget
from glass_rt.inference.engines import open_engines
from glass_rt.inference.head import Head
from glass_rt.inference.judge import Judge
from glass_rt.inference.opened_bundle import OpenedBundle
from glass_rt.inference.pipeline import Pipeline, default_workers
from glass_rt.options import DetectOptions
from tests.bench_zoo import write_bundle

OPTIONS = DetectOptions(seed=3)
PATIENCE = 20  # seconds, for what comes at once where it is right


class LeftToItself:
    """An engine around a real one: it starts packs, and ends the first only when it is told."""

    def __init__(self, engine: Any, faults: dict[str, int]) -> None:
        self.engine, self.faults = engine, faults
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self.started: list[int] = []
        self.first_may_end, self.second_started = threading.Event(), threading.Event()

    def run(self, feeds: Any) -> Any:
        return self.submit(feeds)()

    def submit(self, feeds: Any) -> Callable[[], Any]:
        number = len(self.started)
        self.started.append(len(feeds["pixels"]))
        if number == 1:
            self.second_started.set()
        if self.faults.get("submit") == number:
            raise BackendError("it would not start")
        found = self.engine.run({"pixels": np.array(feeds["pixels"])})

        def wait() -> Any:
            if number == 0:
                assert self.first_may_end.wait(PATIENCE)
            if self.faults.get("wait") == number:
                raise BackendError("it would not end")
            return found

        return wait

    def close(self) -> None:
        self.engine.close()


@pytest.fixture
def faults() -> dict[str, int]:
    return {}


@pytest.fixture
def judge(tmp_path: Path, faults: dict[str, int]) -> Judge:
    bundle = Bundle.open(write_bundle(tmp_path / "bundle"))
    engines = {role: LeftToItself(engine, faults) for role, engine in open_engines(bundle).items()}
    return Judge(OpenedBundle(bundle, engines, Head.for_model(bundle.manifest.model, bundle.head()), 4, on_gpu=True))


def picture(number: int) -> Any:
    return np.random.default_rng(number).integers(0, 256, (500, 400, 3), dtype=np.uint8)


def test_the_next_pack_is_started_before_the_first_has_ended(judge: Judge) -> None:
    engine: Any = judge.opened.engines["local"]
    for opened in judge.opened.engines.values():
        opened.first_may_end.set()  # type: ignore[attr-defined]
    engine.first_may_end.clear()
    with Pipeline(judge, 1) as pipeline:
        first = pipeline.submit(picture(1), OPTIONS)
        while not engine.started:
            assert not first.done()
        taken = pipeline.pack_taken
        second = pipeline.submit(picture(2), OPTIONS)
        assert taken is not None
        # The judge waits for the first pack by now or finds the second before: both must end.
        engine.first_may_end.set()
        assert first.result(PATIENCE).probability_fake != second.result(PATIENCE).probability_fake
    judge.close()


def test_a_pack_that_is_ready_is_started_before_the_former_is_concluded(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first pack's engines end when its successor's images are there; its head is computed after those started."""
    engine: Any = judge.opened.engines["local"]
    judge.opened.engines["global"].first_may_end.set()  # type: ignore[attr-defined]
    seen: list[bool] = []
    concluding = Judge._conclude

    def conclude(self: Judge, *given: Any) -> Any:
        seen.append(engine.second_started.wait(PATIENCE) if not seen else True)
        return concluding(self, *given)

    monkeypatch.setattr(Judge, "_conclude", conclude)
    with Pipeline(judge, 1) as pipeline:
        first = pipeline.submit(picture(1), OPTIONS)
        while not engine.started:
            assert not first.done()
        second = pipeline.submit(picture(2), OPTIONS)
        while pipeline._packer._packs and not pipeline._packer._one_is_full():
            pass
        threading.Timer(0.2, engine.first_may_end.set).start()
        assert {first.result(PATIENCE).seed, second.result(PATIENCE).seed} == {3}
    assert seen[0], "the second pack was started"
    judge.close()


@pytest.mark.parametrize("fault", ["submit", "wait"])
def test_a_pack_that_fails_leaves_the_other_as_it_is(judge: Judge, faults: dict[str, int], fault: str) -> None:
    for opened in judge.opened.engines.values():
        opened.first_may_end.set()  # type: ignore[attr-defined]
    with Pipeline(judge, 1) as pipeline:
        expected = pipeline.submit(picture(1), OPTIONS).result(PATIENCE).probability_fake
        faults[fault] = 1
        with pytest.raises(BackendError, match="it would not"):
            pipeline.submit(picture(2), OPTIONS).result(PATIENCE)
        faults.clear()
        assert pipeline.pack_taken is None
        assert pipeline.submit(picture(1), OPTIONS).result(PATIENCE).probability_fake == expected
    judge.close()


@pytest.mark.parametrize(("cores", "on_cpu", "on_gpu"), [(1, 1, 1), (2, 2, 1), (8, 8, 7), (16, 8, 15), (64, 8, 63)])
def test_a_gpu_gets_all_cores_for_decoding_but_the_judges(
    monkeypatch: pytest.MonkeyPatch, cores: int, on_cpu: int, on_gpu: int
) -> None:
    monkeypatch.setattr(module, "usable_cores", lambda: cores)
    assert (default_workers(on_gpu=False), default_workers(on_gpu=True)) == (on_cpu, on_gpu)


@pytest.mark.parametrize(
    ("workers", "memory", "photographs"),  # of 25 megapixels, by OpenCV
    [(0, 1 << 40, 4), (2, 1 << 40, 4), (15, 1 << 40, 15), (63, 1 << 40, 63), (63, 16 << 30, 28), (63, 0, 4)],
)
def test_decoders_for_a_gpu_are_not_kept_waiting_for_each_other(
    monkeypatch: pytest.MonkeyPatch, workers: int, memory: int, photographs: int
) -> None:
    monkeypatch.setattr(decoding_room, "installed_memory", lambda: memory)
    assert decoding_budget(1000, workers) // (6 * 25_000_000) == photographs
