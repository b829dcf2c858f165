"""Ids, logs, figures and keys: what every request has, whatever it is about."""

import json
from pathlib import Path

import pytest

from glass_rt import Detector
from glass_rt.errors import UsageError
from glass_rt.serve.api_keys import api_key_of, check_api_key, read_api_keys
from glass_rt.serve.refusals import Unauthorized
from glass_rt.serve.settings import ServerSettings
from tests.serving import UNHURRIED_S, VERDICT, Plant, Process, serving, wait_until

KEYS = (b"correct-horse-battery", b"staple-of-the-second-kind")


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


def test_with_api_keys_only_those_who_have_one_come_in(plant: Plant, picture: bytes) -> None:
    with serving(plant, ServerSettings(api_keys=KEYS, deadline_s=UNHURRIED_S)) as here:
        refused = here.post(picture)
        assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert here.post(picture, headers={"X-API-Key": "correct-horse-batter"}).status == 401
        assert here.post(picture, headers={"Authorization": "Basic correct-horse-battery"}).status == 401
        assert here.get("/metrics").status == 401
        assert here.get("/readyz").status == 200, "probes have no key"
        assert plant.engine.rows == 1, "nothing but the canary was judged"
        assert here.post(picture, headers={"X-API-Key": KEYS[0].decode()}).status == 200
        assert here.post(picture, headers={"Authorization": f"bearer {KEYS[1].decode()}"}).status == 200


def test_keys_are_compared_whole() -> None:
    check_api_key(KEYS[1], KEYS)
    check_api_key(None, ())
    for wrong in (None, b"", KEYS[0][:-1], KEYS[0] + b"x", KEYS[0] + KEYS[1], "schlüssel".encode()):
        with pytest.raises(Unauthorized):
            check_api_key(wrong, KEYS)


def test_the_key_header_comes_before_a_bearers() -> None:
    assert api_key_of([(b"x-api-key", b"a")]) == b"a"
    assert api_key_of([(b"authorization", b"Bearer  b ")]) == b"b"
    assert api_key_of([(b"authorization", b"Digest b")]) is None


def test_a_key_file_holds_one_key_per_line(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# ours\ncorrect-horse-battery\n\n staple-of-the-second-kind \n")
    assert read_api_keys(path) == KEYS


@pytest.mark.parametrize(
    ("text", "words"), [("", "holds no key"), ("# only this\n", "holds no key"), ("short\n", "shorter than 16")]
)
def test_a_key_file_of_no_use_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        read_api_keys(path)


def test_a_key_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_api_keys(tmp_path / "none")
