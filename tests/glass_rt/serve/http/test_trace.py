"""Ids, log lines and metrics of requests."""

import json

from glass_rt import Detector
from tests.serving import VERDICT, Process, wait_until


def test_a_request_keeps_its_id_or_gets_one(server: Process) -> None:
    assert server.get("/healthz", {"X-Request-ID": "req-1.a:b"}).headers["x-request-id"] == "req-1.a:b"
    for bad in ("two words", "x" * 129, '"'):
        given = server.get("/healthz", {"X-Request-ID": bad}).headers["x-request-id"]
        assert len(given) == 32, bad
    assert server.get("/nowhere").headers["x-request-id"] != server.get("/nowhere").headers["x-request-id"]


def test_every_judging_request_is_a_json_line_without_its_bytes(server: Process, picture: bytes) -> None:
    server.post(picture, headers={"X-Request-ID": "logged-1"})
    server.post(b"secret words", headers={"X-Request-ID": "logged-2"})
    wait_until(lambda: any(line.get("request_id") == "logged-2" for line in server.log()))
    lines = {line["request_id"]: line for line in server.log() if "request_id" in line}
    assert (lines["logged-1"]["status"], lines["logged-2"]["status"]) == (200, 415)
    assert lines["logged-1"]["path"] == VERDICT
    assert lines["logged-1"]["ms"] > 0
    text = json.dumps(server.log())
    assert "secret" not in text
    assert "JFIF" not in text


def test_figures_count_what_happened(server: Process, picture: bytes) -> None:
    name = 'glass_rt_requests_total{code="200",method="POST",route="/v1/verdict"}'
    before, batches = server.figure(name), server.figure("glass_rt_batch_images_count")
    engine = server.figure("glass_rt_engine_seconds_total")
    label = server.post(picture).json["label"]
    server.post(b"no image")
    server.get("/no/such/" + "path" * 20)
    assert server.figure(name) == before + 1
    assert server.figure("glass_rt_batch_images_count") == batches + 1
    assert server.figure("glass_rt_engine_seconds_total") > engine
    assert server.figure(f'glass_rt_images_total{{outcome="{label}"}}') >= 1
    assert server.figure('glass_rt_images_total{outcome="format"}') >= 1
    assert server.figure('glass_rt_requests_total{code="404",method="GET",route="none"}') >= 1
    assert server.figure('glass_rt_stage_seconds_count{stage="decode"}') >= 1
    assert server.figure("glass_rt_ready") == 1
    assert server.figure("glass_rt_queue_images") == 0
    assert server.figure("glass_rt_queue_bytes") == 0
    assert b"/no/such" not in server.get("/metrics").body


def test_the_figures_say_which_bundle_serves(server: Process, judge: Detector) -> None:
    health = server.get("/healthz").json
    assert health["ready"] is True
    assert health["bundle_sha256"] == judge.bundle.sha256
    (line,) = [line for line in server.get("/metrics").body.decode().splitlines() if "build_info{" in line]
    assert f'bundle_sha256="{judge.bundle.sha256}"' in line
