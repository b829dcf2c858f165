"""A server's refusals: large bodies, too many images, images whose client has disconnected."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from glass_rt import DetectOptions, Detector
from glass_rt.serve.settings import ServerSettings
from tests.glass_rt.serve.conftest import MAX_BODY
from tests.serving import UNHURRIED_S, VERDICT, Plant, Process, ask, form, same_verdict, serving, wait_until

pytestmark = pytest.mark.slow

GIGABYTE = 1 << 30


def endless(count: int, chunk: bytes = b"\xff\xd8\xff" + bytes((1 << 20) - 3)) -> Iterator[bytes]:
    for _ in range(count):
        yield chunk


def test_a_gigabyte_that_is_announced_is_refused_before_it_is_sent(server: Process) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(f"POST {VERDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {GIGABYTE}\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_gigabyte_in_chunks_is_refused_and_never_held(server: Process) -> None:
    before = server.peak_bytes()
    response = server.post(endless(1024))
    assert (response.status, response.json["error"]["kind"]) == (413, "body_too_large")
    assert str(MAX_BODY) in response.json["error"]["message"]
    assert server.peak_bytes() - before < 8 * MAX_BODY


def test_a_form_counts_as_a_body_with_all_its_files(server: Process) -> None:
    files = [(f"{number}.jpg", bytes(3 << 20)) for number in range(3)]  # each fits, three do not
    body, headers = form(*files)
    before = server.peak_bytes()
    assert server.post(body, "", headers).status == 413
    assert server.post(iter([body]), "", headers).status == 413, "sent in chunks too"
    assert server.peak_bytes() - before < 8 * MAX_BODY


def test_a_refused_body_does_not_spoil_its_connection(server: Process, picture: bytes) -> None:
    connection = server.connect()
    assert ask(connection, "POST", VERDICT, bytes(MAX_BODY + 1)).status == 413
    assert ask(connection, "POST", VERDICT, picture).status == 200
    connection.close()


def test_a_small_file_of_many_pixels_is_refused_by_its_header(plant: Plant, judge: Detector) -> None:
    done, bomb = cv2.imencode(".png", np.zeros((9000, 9000), np.uint8))
    assert done
    assert len(bomb) < 110_000
    with serving(plant, ServerSettings(max_pixels=80_000_000, deadline_s=UNHURRIED_S)) as here:
        response = here.post(bomb.tobytes())
        assert (response.status, response.json["error"]["kind"]) == (413, "too_large")
        assert "9000 x 9000" in response.json["error"]["message"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "ends before its closing boundary"),
        (b"no boundary at all", "cannot be read"),
        (b'--b\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\nabc', "ends before"),
        (b'--b\r\nContent-Disposition: form-data; name="seed"\r\n\r\n3\r\n--b--\r\n', "'seed' is not a file"),
        (b"--b\r\n\r\nabc\r\n--b--\r\n", "is not a file"),
        (b"--b\r\nX: " + bytes(100_000) + b"\r\n\r\nabc\r\n--b--\r\n", "cannot be read"),
        (b"--b--\r\n", "holds no file"),
    ],
)
def test_malformed_forms_are_refused(server: Process, body: bytes, words: str) -> None:
    response = server.post(body, "", {"Content-Type": "multipart/form-data; boundary=b"})
    assert response.status == 400
    assert words in response.json["error"]["message"]


def test_a_form_without_a_boundary_is_refused(server: Process) -> None:
    assert server.post(b"x", "", {"Content-Type": "multipart/form-data"}).status == 400
    assert server.post(b"x", "", {"Content-Type": "multipart/form-data; boundary="}).status == 400


def test_a_form_of_more_images_than_the_queue_holds_is_refused_whole(plant: Plant, picture: bytes) -> None:
    body, headers = form(*[("a.jpg", picture)] * 4)
    with serving(plant, ServerSettings(queue_images=3, deadline_s=UNHURRIED_S)) as here:
        response = here.post(body, "", headers)
        assert (response.status, response.json["error"]["kind"]) == (413, "body_too_large")
        assert plant.engine.rows == 1, "but for the canary"


def test_past_the_queue_requests_get_429_and_those_within_their_verdicts(
    plant: Plant, judge: Detector, picture: bytes
) -> None:
    with (
        serving(plant, ServerSettings(queue_images=3, deadline_s=UNHURRIED_S)) as here,
        ThreadPoolExecutor(3) as clients,
    ):
        plant.engine.go_on.clear()
        accepted = [clients.submit(here.post, picture, f"?seed={seed}") for seed in range(3)]
        wait_until(lambda: here.figure("glass_rt_queue_images") == 3)
        refused = here.post(picture)
        assert (refused.status, refused.json["error"]["kind"]) == (429, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        assert here.figure('glass_rt_requests_total{code="429",method="POST",route="/v1/verdict"}') == 1
        plant.engine.go_on.set()
        responses = [future.result() for future in accepted]
        assert [response.json["seed"] for response in responses] == [0, 1, 2]
        assert here.post(picture, "?seed=0").status == 200
        assert here.figure("glass_rt_queue_images") == 0


def test_past_the_bytes_bodies_get_429_while_they_come(plant: Plant, picture: bytes) -> None:
    size = len(picture)
    with serving(plant, ServerSettings(max_body=2 * size, queue_bytes=2 * size, deadline_s=UNHURRIED_S)) as here:
        plant.engine.go_on.clear()
        with ThreadPoolExecutor(1) as client:
            first = client.submit(here.post, picture)
            wait_until(lambda: here.figure("glass_rt_queue_images") == 1)
            assert here.figure("glass_rt_queue_bytes") == size
            assert here.post(picture + bytes(size // 2)).status == 429
            assert here.figure("glass_rt_queue_bytes") == size, "what was refused is let go"
            plant.engine.go_on.set()
            assert first.result().status == 200
        assert here.figure("glass_rt_queue_bytes") == 0


def test_an_image_that_is_not_judged_in_time_is_given_up(plant: Plant, picture: bytes) -> None:
    with serving(plant, ServerSettings(deadline_s=0.5)) as here:
        plant.engine.go_on.clear()
        response = here.post(picture)
        assert (response.status, response.json["error"]["kind"]) == (504, "deadline")
        assert here.figure("glass_rt_queue_images") == 0
        assert here.figure('glass_rt_images_total{outcome="deadline"}') == 1
        plant.engine.go_on.set()


def test_evidence_pictures_are_drawn_within_the_queue_and_the_deadline(
    plant: Plant, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawing, go_on = threading.Event(), threading.Event()

    def slow(*_: object) -> str:
        drawing.set()
        assert go_on.wait(60)
        return ""

    monkeypatch.setattr("glass_rt.serve.http.overlay_jpeg._draw", slow)
    body, headers = form(*[("a.jpg", picture)] * 2)
    with serving(plant, ServerSettings(queue_images=2, deadline_s=2.0)) as here, ThreadPoolExecutor(1) as client:
        asking = client.submit(here.post, body, "?overlay=1", headers)
        assert drawing.wait(60)
        assert here.figure("glass_rt_queue_images") == 2
        response = asking.result()
        assert (response.status, response.json["error"]["kind"]) == (504, "deadline")
        assert "overlay" in response.json["error"]["message"]
        assert here.figure("glass_rt_queue_images") == 0
        go_on.set()


def test_a_client_that_has_gone_costs_nothing_more(plant: Plant, picture: bytes) -> None:
    """Its image is cancelled before the engine receives it, and its place in the queue is free."""
    with serving(plant, ServerSettings(queue_images=2, deadline_s=UNHURRIED_S)) as here:
        plant.engine.go_on.clear()
        with ThreadPoolExecutor(1) as client:
            first = client.submit(here.post, picture)
            wait_until(lambda: plant.engine.rows == 2)  # the canary, and the one that is held up
            leaving = here.connect()
            leaving.request("POST", VERDICT, picture)
            wait_until(lambda: here.figure("glass_rt_queue_images") == 2)
            leaving.close()
            wait_until(lambda: here.figure("glass_rt_queue_images") == 1)
            wait_until(lambda: here.figure("glass_rt_queue_bytes") == len(picture))
            plant.engine.go_on.set()
            assert first.result().status == 200
        assert here.post(picture).status == 200
        assert plant.engine.rows == 3
        assert here.figure('glass_rt_requests_total{code="499",method="POST",route="/v1/verdict"}') == 1


def test_a_client_gone_in_the_middle_of_its_body_leaves_nothing_behind(server: Process, picture: bytes) -> None:
    for size in (10, len(picture) // 2):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            head = f"POST {VERDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(picture)}\r\n\r\n"
            connection.sendall(head.encode() + picture[:size])
            wait_until(lambda size=size: server.figure("glass_rt_queue_bytes") == size)  # type: ignore[misc]
    wait_until(lambda: server.figure("glass_rt_requests_open") == 0)
    assert server.figure("glass_rt_queue_bytes") == 0


def test_many_clients_at_once_get_each_their_own_verdict(server: Process, judge: Detector, picture: bytes) -> None:
    expected = {seed: judge.detect(picture, DetectOptions(seed=seed)) for seed in range(12)}

    def client(number: int) -> None:
        connection = server.connect()
        for turn in range(6):
            seed = (number * 5 + turn) % 12
            response = ask(connection, "POST", f"{VERDICT}?seed={seed}", picture)
            assert response.status == 200
            assert same_verdict(response.json, expected[seed])
        connection.close()

    with ThreadPoolExecutor(8) as clients:
        assert len(list(clients.map(client, range(8)))) == 8
