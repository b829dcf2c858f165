"""The service with engines that fail once, fail always, or hang."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from glass_rt import DetectOptions, Detector
from glass_rt.errors import BackendError, BundleNotFound
from glass_rt.inference.prepared_image import PreparedImage, prepare_image
from glass_rt.serve.metrics import Metrics
from glass_rt.serve.refusals import DeadlineExceeded
from glass_rt.serve.service import FAILURES_IN_A_ROW, Service
from glass_rt.serve.settings import ServerSettings
from tests.serving import Plant, form, same_verdict, serving, wait_until

pytestmark = pytest.mark.slow

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
        response = here.post(body, "", headers)
        assert response.status == 500
        assert [result["error"]["kind"] for result in response.json] == ["backend", "format"]


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
    with serving(plant, ServerSettings(deadline_s=0.5)) as here:
        plant.engine.go_on.clear()
        assert here.post(picture).status == 504
        wait_until(lambda: here.get("/readyz").status == 503)
        assert here.post(picture).status == 503, "what hangs is given no more"
        plant.engine.go_on.set()
        wait_until(lambda: here.get("/readyz").status == 200)
        assert here.post(picture).status == 200


def test_an_engine_is_not_hung_where_an_image_decodes_slowly(
    plant: Plant, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def slow(*arguments: Any) -> PreparedImage:
        assert go_on.wait(60)
        return prepare_image(*arguments)

    with serving(plant, ServerSettings(deadline_s=0.5)) as here:
        monkeypatch.setattr("glass_rt.inference.pipeline.prepare_image", slow)
        for _ in range(2):
            assert here.post(picture).status == 504
            assert here.get("/readyz").status == 200
        go_on.set()


def test_an_engine_that_hangs_is_left_behind(plant: Plant, picture: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glass_rt.serve.loaded_bundle.CLOSING_S", 0.2)

    async def hang() -> None:
        service = Service(plant, ServerSettings(deadline_s=0.5), Metrics())
        await service.start()
        plant.engine.go_on.clear()
        with pytest.raises(DeadlineExceeded):
            await service.judge([picture], DetectOptions())
        await service.stop()
        assert service.left_behind
        assert not plant.engine.closed

    asyncio.run(hang())
    plant.engine.go_on.set()
    wait_until(lambda: plant.engine.closed)


def test_a_server_whose_canary_hangs_does_not_start(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glass_rt.serve.loaded_bundle.CLOSING_S", 0.2)

    def hanging() -> Detector:
        detector = plant()
        plant.engine.go_on.clear()
        return detector

    with pytest.raises(BackendError, match=r"not judged within 0\.5 s"):
        asyncio.run(Service(hanging, ServerSettings(deadline_s=0.5), Metrics()).start())
    plant.engine.go_on.set()
    wait_until(lambda: plant.engine.closed)


def test_a_reload_while_the_server_starts_waits_for_it(plant: Plant) -> None:
    async def reload() -> None:
        service = Service(plant, ServerSettings(), Metrics())
        _, reloaded = await asyncio.gather(service.start(), service.reload())
        assert reloaded
        await service.stop()

    asyncio.run(reload())
    assert [engine.closed for engine in plant.engines] == [True, True]


def test_a_reload_while_the_server_stops_closes_what_it_opened(plant: Plant) -> None:
    opening, go_on = threading.Event(), threading.Event()
    go_on.set()

    def slowly() -> Detector:
        opening.set()
        assert go_on.wait(60)
        return plant()

    async def reload() -> None:
        service = Service(slowly, ServerSettings(), Metrics())
        await service.start()
        go_on.clear()
        opening.clear()
        reloading = asyncio.create_task(service.reload())
        await asyncio.to_thread(opening.wait)
        stopping = asyncio.create_task(service.stop())
        await asyncio.sleep(0.1)
        go_on.set()
        await stopping
        assert await reloading is False
        assert not service.left_behind

    asyncio.run(reload())
    assert [engine.closed for engine in plant.engines] == [True, True]


def test_an_engine_that_is_broken_for_minutes_is_not_live(
    plant: Plant, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supervisor may then restart the process."""
    with serving(plant) as here:
        plant.engine.always = OUT_OF_MEMORY
        for _ in range(FAILURES_IN_A_ROW):
            here.post(picture)
        assert here.get("/healthz").json["live"] is True
        monkeypatch.setattr("glass_rt.serve.service.BROKEN_LIMIT_S", 0.0)
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
        async with Service(broken, ServerSettings(), Metrics()):
            raise AssertionError("it started")

    with pytest.raises(BackendError, match="out of memory"):
        asyncio.run(start())


def test_a_server_without_a_bundle_does_not_start(tmp_path: Path) -> None:
    async def start() -> None:
        async with Service(lambda: Detector.open(tmp_path / "none"), ServerSettings(), Metrics()):
            raise AssertionError("it started")

    with pytest.raises(BundleNotFound):
        asyncio.run(start())
