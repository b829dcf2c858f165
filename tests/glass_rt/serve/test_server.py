"""The process that users start: signals under load, reloads, its options and its errors."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep

import cv2
import numpy as np
import pytest

from glass_rt import DetectOptions, Detector
from tests.serving import VERDICT, HttpResponse, Process, ask, form, same_verdict, serve_process, wait_until
from tests.support import Bundles, Cli

pytestmark = pytest.mark.slow


@dataclass
class Load:
    """Clients that send requests one after the other on open connections, until the test stops them."""

    server: Process
    picture: bytes
    responses: list[tuple[int, HttpResponse]] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def client(self, number: int) -> None:
        connection = self.server.connect()
        turn = 0
        try:
            while not self.stopped.is_set():
                seed = (number + turn) % 6
                response = ask(connection, "POST", f"{VERDICT}?seed={seed}", self.picture)
                self.responses.append((seed, response))
                turn += 1
                if response.headers.get("connection") == "close":
                    return
        except Exception as error:
            self.errors.append(error)
        finally:
            connection.close()


@contextmanager
def load(server: Process, picture: bytes, clients: int = 6) -> Iterator[Load]:
    running = Load(server, picture)
    threads = [threading.Thread(target=running.client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(running.responses) > 2 * clients or bool(running.errors))
        yield running
    finally:
        running.stopped.set()
        for thread in threads:
            thread.join(60)


def test_sigterm_under_load_loses_no_request_that_was_accepted(
    bundles: Bundles, judge: Detector, picture: bytes, tmp_path: Path
) -> None:
    expected = [judge.detect(picture, DetectOptions(seed=seed)) for seed in range(6)]
    with serve_process(bundles("mobilenet_v3_small").folder, tmp_path) as server:
        with load(server, picture) as running:
            assert server.stop() == 0
        assert not running.errors, "every request got a response"
        statuses = {response.status for _, response in running.responses}
        assert statuses <= {200, 503}
        for seed, response in running.responses:
            if response.status == 200:
                assert same_verdict(response.json, expected[seed])
            else:
                assert response.json["error"]["kind"] == "draining"
                assert int(response.headers["retry-after"]) >= 1
        messages = [line["message"] for line in server.log()]
        assert messages[-1] == "stopped"


def test_a_body_that_is_on_its_way_when_sigterm_comes_is_still_judged(
    bundles: Bundles, judge: Detector, picture: bytes, tmp_path: Path
) -> None:
    with serve_process(bundles("mobilenet_v3_small").folder, tmp_path) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            head = f"POST {VERDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(picture)}\r\n\r\n".encode()
            connection.sendall(head + picture[:1000])
            wait_until(lambda: server.figure("glass_rt_queue_bytes") == 1000)
            server.signal(signal.SIGTERM)
            wait_until(lambda: server.get("/healthz").json["draining"])
            assert server.post(picture).status == 503
            connection.sendall(picture[1000:])
            response = connection.makefile("rb").read()
        assert response.startswith(b"HTTP/1.1 200 OK")
        assert same_verdict(json.loads(response.split(b"\r\n\r\n", 1)[1]), judge.detect(picture))
        assert server.stop() == 0


def test_a_rebuilt_bundle_takes_over_under_load_and_a_broken_one_does_not(
    bundles: Bundles, picture: bytes, tmp_path: Path
) -> None:
    folder = tmp_path / "engine"
    kinds = [bundles("resnet18"), bundles("mobilenet_v3_small")]
    expected: dict[tuple[str, int], object] = {}
    for bundle in kinds:
        with Detector.open(bundle.folder) as detector:
            for seed in range(6):
                expected[bundle.sha256, seed] = detector.detect(picture, DetectOptions(seed=seed)).to_json()
    shutil.copytree(kinds[0].folder, folder)
    with serve_process(folder, tmp_path) as server:
        with load(server, picture) as running:
            exchange(folder, lambda new: shutil.copytree(kinds[1].folder, new))
            reload_and_wait(server, 'glass_rt_reloads_total{outcome="done"}')
            assert server.get("/healthz").json["bundle_sha256"] == kinds[1].sha256
            exchange(folder, lambda new: new.mkdir())
            reload_and_wait(server, 'glass_rt_reloads_total{outcome="failed"}')
            assert server.get("/healthz").json["ready"] is True
            before = len(running.responses)
            wait_until(lambda: len(running.responses) > before + 12)
        assert not running.errors
        assert {response.status for _, response in running.responses} == {200}
        served = [response.json["engine"]["bundle_sha256"] for _, response in running.responses]
        assert set(served) == {bundle.sha256 for bundle in kinds}
        for seed, response in running.responses:
            told = response.json
            known = expected[told["engine"]["bundle_sha256"], seed]
            assert isinstance(known, dict)
            assert same_verdict(told, known)
        assert "the old bundle goes on serving" in json.dumps(server.log())
        assert server.stop() == 0


def exchange(folder: Path, make: Callable[[Path], object]) -> None:
    """Puts another folder in the place of one, as a build does."""
    new = folder.with_name("new")
    make(new)
    folder.rename(folder.with_name(f"old{len(list(folder.parent.iterdir()))}"))
    new.rename(folder)


def reload_and_wait(server: Process, figure: str) -> None:
    server.signal(signal.SIGHUP)
    wait_until(lambda: server.figure(figure) == 1)


def test_ctrl_c_drains_too_and_the_second_one_does_not_wait(bundles: Bundles, tmp_path: Path) -> None:
    with (
        serve_process(bundles("mobilenet_v3_small").folder, tmp_path) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection,
    ):
        connection.sendall(f"POST {VERDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nx".encode())
        wait_until(lambda: server.figure("glass_rt_queue_bytes") == 1)
        server.signal(signal.SIGINT)
        wait_until(lambda: server.get("/healthz").json["draining"])
        server.signal(signal.SIGINT)
        assert server.process.wait(60) == 130


# The canary is judged, and no image after it.
HANGS = """
import threading
from glass_rt.cli import main
from glass_rt.inference.judge import Judge
start = Judge.start
def start_once(self, pack):
    Judge.start = lambda self, pack: threading.Event().wait
    return start(self, pack)
Judge.start = start_once
main()
"""


def test_a_process_whose_engine_hangs_ends_at_sigterm(bundles: Bundles, picture: bytes, tmp_path: Path) -> None:
    folder, options = bundles("mobilenet_v3_small").folder, ("--deadline", "0.5")
    with serve_process(folder, tmp_path, *options, program=("-c", HANGS)) as server:
        assert server.post(picture).status == 504
        assert server.stop() == 1
        assert any("left behind" in line["message"] for line in server.log())
        assert server.log()[-1]["message"] == "stopped"


def test_an_answer_that_is_being_taken_when_sigterm_comes_is_sent_whole(bundles: Bundles, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), np.uint8)
    done, large = cv2.imencode(".jpg", noise)
    assert done
    body, headers = form(*[("a.jpg", large.tobytes())] * 6)
    with serve_process(bundles("mobilenet_v3_small").folder, tmp_path) as server:
        connection = server.connect()
        connection.request("POST", f"{VERDICT}?overlay=1&crops=1", body, headers)
        response = connection.getresponse()
        server.signal(signal.SIGTERM)
        wait_until(lambda: server.log()[-1]["message"] == "draining")
        sleep(2.5)  # longer than the server would wait for nothing
        assert server.process.poll() is None
        content = response.read()  # raises IncompleteRead where it is shorter than announced
        connection.close()
        assert len(json.loads(content)) == 6
        assert server.process.wait(60) == 0


def test_a_port_in_use_is_named_before_the_engine_is_opened(server: Process, cli: Cli, judge: Detector) -> None:
    done = cli("serve", "--engine", judge.bundle.folder, "--port", server.port)
    assert done.returncode == 1
    assert f"error: cannot listen on 127.0.0.1, port {server.port}: Address already in use" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_host_that_does_not_exist_is_named(cli: Cli, judge: Detector) -> None:
    done = cli("serve", "--engine", judge.bundle.folder, "--host", "no.such.host.invalid", "--port", 0)
    assert done.returncode == 1
    assert "cannot listen on no.such.host.invalid" in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--max-body", "64X"), "is no size"),
        (("--max-body", "0"), "is no size"),
        (("--deadline", "0"), "0"),
        (("--queue-bytes", "1K"), "one body of max_body"),
        (("--api-key-file", "none"), "cannot be read"),
    ],
)
def test_options_that_cannot_work_are_wrong_usage(cli: Cli, options: tuple[str, str], words: str) -> None:
    done = cli("serve", *options)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_bundle_that_is_not_there_is_an_error_in_our_words(cli: Cli, tmp_path: Path) -> None:
    done = cli("serve", "--engine", tmp_path / "none", "--port", 0)
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr


def test_help_and_the_runtime_load_no_server_library() -> None:
    code = (
        "import sys, glass_rt, glass_rt.cli, glass_rt.cli.serve\n"
        "try: glass_rt.cli.cli.main(['serve', '--help'], standalone_mode=False)\n"
        "finally: print([name for name in ('starlette', 'uvicorn', 'prometheus_client', 'onnxruntime') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "--api-key-file" in done.stdout


@pytest.mark.parametrize("missing", ["starlette", "uvicorn", "httptools", "prometheus_client", "python_multipart"])
def test_a_missing_library_is_named_with_what_installs_it(missing: str, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        f"sys.modules[{missing!r}] = None\n"
        "sys.argv = ['glass-rt', 'serve', '--engine', 'none', '--port', '0']\n"
        "from glass_rt.cli import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert "pip install 'glass-rt[serve]'" in done.stderr
    assert "Traceback" not in done.stderr
