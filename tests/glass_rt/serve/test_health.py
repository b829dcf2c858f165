"""Engines that fail: once, always, or without a word."""

import asyncio
from pathlib import Path

import pytest

from glass_rt import Detector
from glass_rt.errors import BackendError, BundleNotFound
from glass_rt.serve.metrics import Metrics
from glass_rt.serve.service import FAILURES_IN_A_ROW, Service
from glass_rt.serve.settings import Settings
from tests.serving import Plant, form, same_verdict, serving, wait_until

OUT_OF_MEMORY = BackendError("the device is out of memory")


def test_an_engine_that_fails_once_costs_one_answer(plant: Plant, judge: Detector, picture: bytes) -> None:
    with serving(plant) as here:
        plant.engine.failures.append(OUT_OF_MEMORY)
        failed = here.post(picture)
        assert failed.status == 500
        assert failed.json["error"] == {"kind": "backend", "message": "the device is out of memory"}
        assert here.get("/readyz").status == 200
        assert same_verdict(here.post(picture).json, judge.detect(picture))


def test_what_a_library_raises_from_under_an_engine_is_an_answer_too(plant: Plant, picture: bytes) -> None:
    with serving(plant) as here:
        plant.engine.failures.append(RuntimeError("cublas: not initialised\nat line 3"))
        failed = here.post(picture)
        assert (failed.status, failed.json["error"]["message"]) == (500, "cublas: not initialised")
        assert here.post(picture).status == 200


def test_in_a_form_the_engines_failure_is_the_answers_status(plant: Plant, picture: bytes) -> None:
    body, headers = form(("a.jpg", picture), ("b.jpg", b"no image"))
    with serving(plant) as here:
        plant.engine.failures.append(OUT_OF_MEMORY)
        answer = here.post(body, "", headers)
        assert answer.status == 500
        assert [result["error"]["kind"] for result in answer.json] == ["backend", "format"]


def test_an_engine_that_fails_always_is_not_ready_until_it_works_again(
    plant: Plant, judge: Detector, picture: bytes
) -> None:
    with serving(plant) as here:
        plant.engine.always = OUT_OF_MEMORY
        for _ in range(FAILURES_IN_A_ROW):
            assert here.get("/readyz").status == 200
            assert here.post(picture).status == 500
        health = here.get("/readyz")
        assert (health.status, health.json["broken"], health.json["live"]) == (503, True, True)
        assert here.get("/healthz").status == 200, "it may mend: nothing is to be started anew"
        assert here.figure("glass_rt_ready") == 0
        told = here.post(picture)
        assert (told.status, told.json["error"]["kind"]) == (503, "engine_broken")
        assert int(told.headers["retry-after"]) >= 1
        plant.engine.always = None
        wait_until(lambda: here.get("/readyz").status == 200)
        assert same_verdict(here.post(picture).json, judge.detect(picture))


def test_images_that_are_no_images_say_nothing_about_the_engine(plant: Plant) -> None:
    with serving(plant) as here:
        for _ in range(2 * FAILURES_IN_A_ROW):
            assert here.post(b"no image").status == 415
        assert here.get("/readyz").status == 200


def test_an_engine_that_hangs_is_not_ready_until_it_goes_on(plant: Plant, picture: bytes) -> None:
    with serving(plant, Settings(deadline_s=0.5)) as here:
        plant.engine.go_on.clear()
        assert here.post(picture).status == 504
        assert here.get("/readyz").status == 503
        assert here.post(picture).status == 503, "what hangs is given no more"
        plant.engine.go_on.set()
        wait_until(lambda: here.get("/readyz").status == 200)
        assert here.post(picture).status == 200


def test_an_engine_that_is_broken_for_minutes_is_not_live(
    plant: Plant, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever watches may start the process anew."""
    with serving(plant) as here:
        plant.engine.always = OUT_OF_MEMORY
        for _ in range(FAILURES_IN_A_ROW):
            here.post(picture)
        assert here.get("/healthz").json["live"] is True
        monkeypatch.setattr("glass_rt.serve.service.HOPELESS_S", 0.0)
        assert here.get("/healthz").status == 503
        plant.engine.always = None
        wait_until(lambda: here.get("/healthz").json["live"])


def test_a_reload_mends_what_was_broken(plant: Plant, picture: bytes) -> None:
    with serving(plant) as here:
        plant.engine.always = OUT_OF_MEMORY
        for _ in range(FAILURES_IN_A_ROW):
            here.post(picture)
        assert here.get("/readyz").status == 503
        asyncio.run_coroutine_threadsafe(here.service.reload(), here.loop).result(60)
        assert here.get("/readyz").status == 200
        assert here.post(picture).status == 200


def test_a_server_whose_canary_fails_does_not_start(plant: Plant) -> None:
    def broken() -> Detector:
        detector = plant()
        plant.engine.always = OUT_OF_MEMORY
        return detector

    async def start() -> None:
        async with Service(broken, Settings(), Metrics()):
            raise AssertionError("it started")

    with pytest.raises(BackendError, match="out of memory"):
        asyncio.run(start())


def test_a_server_without_a_bundle_does_not_start(tmp_path: Path) -> None:
    async def start() -> None:
        async with Service(lambda: Detector.open(tmp_path / "none"), Settings(), Metrics()):
            raise AssertionError("it started")

    with pytest.raises(BundleNotFound):
        asyncio.run(start())
