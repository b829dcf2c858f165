"""Signals: reloads that do not pile up, keys that are read again, an end in the midst of opening."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

from glass_rt.serve.metrics import Metrics
from glass_rt.serve.service import Service
from glass_rt.serve.settings import ServerSettings
from glass_rt.serve.signals import OneAtATime
from tests.serving import Plant, serve_process, wait_until
from tests.support import Bundles

pytestmark = pytest.mark.slow

KEYS = ("correct-horse-battery", "staple-of-the-second-kind")
HANGUPS = 725

# Opening takes until the file is there.
SLOW = """
import pathlib, sys, time
from glass_rt.detector import Detector
from glass_rt.cli import main
opened = Detector.open
def slowly(*arguments, **options):
    print("opening", file=sys.stderr, flush=True)
    while not pathlib.Path("go-on").exists():
        time.sleep(0.02)
    return opened(*arguments, **options)
Detector.open = staticmethod(slowly)
main()
"""


def run_one_at_a_time(asks: list[int], stop_after: int | None = None) -> int:
    """How often an action runs that is asked for so many times before and in each of its runs."""

    async def run() -> int:
        stopping, runs = asyncio.Event(), 0

        async def action() -> None:
            nonlocal runs
            runs += 1
            for _ in range(asks[runs] if runs < len(asks) else 0):
                one.ask()
            if runs == stop_after:
                stopping.set()
            await asyncio.sleep(0)

        one = OneAtATime(action, stopping)
        for _ in range(asks[0]):
            one.ask()
        for _ in range(50):
            await asyncio.sleep(0)
        one.ask()
        for _ in range(50):
            await asyncio.sleep(0)
        return runs

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("asks", "stop_after", "runs"),
    [
        ([0], None, 1),  # the last, which asks after all others
        ([1], None, 2),
        ([HANGUPS], None, 2),  # all of them before it has begun
        ([1, HANGUPS], None, 3),  # one for all that came meanwhile
        ([1, 1, 1, 0], None, 4),
        ([HANGUPS], 1, 1),
        ([1, HANGUPS], 1, 1),
        ([1, 1, 1], 2, 2),
    ],
)
def test_an_action_waits_at_most_once(asks: list[int], stop_after: int | None, runs: int) -> None:
    assert run_one_at_a_time(asks, stop_after) == runs


def test_many_hangups_are_few_reloads_and_sigterm_does_not_wait_for_them(bundles: Bundles, tmp_path: Path) -> None:
    with serve_process(bundles("mobilenet_v3_small").folder, tmp_path) as server:
        for _ in range(HANGUPS):
            server.signal(signal.SIGHUP)
            sleep(0.0002)
        began = monotonic()
        assert server.stop() == 0
        assert monotonic() - began < 10
        reloads = [line for line in server.log() if line["message"].startswith("reloaded")]
        assert len(reloads) <= 10


def test_keys_are_read_again(bundles: Bundles, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"  # ours, until today\n{KEYS[0]}\n")
    with serve_process(bundles("mobilenet_v3_small").folder, tmp_path, "--api-key-file", str(path)) as server:

        def statuses() -> list[int]:
            keys = (*KEYS, "# ours, until today", "  # ours, until today")
            return [server.get("/v2", {"X-API-Key": key}).status for key in keys]

        assert statuses() == [200, 401, 401, 401]
        path.write_text(f"{KEYS[1]}\n")
        server.signal(signal.SIGHUP)
        wait_until(lambda: statuses() == [401, 200, 401, 401])
        for number, broken in enumerate(("", "short", "# nothing", "\xff"), start=1):
            path.write_bytes(broken.encode("latin-1"))
            server.signal(signal.SIGHUP)
            wait_until(lambda number=number: complaints(server.log()) == number)  # type: ignore[misc]
            assert statuses() == [401, 200, 401, 401], "what was there stays"
        path.unlink()
        os.mkfifo(path)
        server.signal(signal.SIGHUP)
        wait_until(lambda: complaints(server.log()) == 5)
        assert statuses() == [401, 200, 401, 401]
        assert not [line for line in server.log() if KEYS[1] in str(line) or line["message"] == "short"]
        assert server.stop() == 0


def complaints(log: list[dict[str, object]]) -> int:
    return sum("API keys not read again" in str(line["message"]) for line in log)


def test_grpc_knows_the_new_keys_too(plant: Plant, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(KEYS[0])
    service = Service(plant, ServerSettings(api_keys=(b"from-before-all-this",), api_key_file=path), Metrics())
    assert service.api_keys == (b"from-before-all-this",)
    assert asyncio.run(service.reload_api_keys())
    assert service.api_keys == (KEYS[0].encode(),)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_while_the_engine_is_opened_ends_the_process(
    bundles: Bundles, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    engine = bundles("mobilenet_v3_small").folder
    command = [sys.executable, "-c", SLOW, "serve", "--engine", str(engine), "--port", "0", "--grpc-port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=tmp_path, text=True)
    assert process.stderr is not None
    assert process.stderr.readline() == "opening\n"
    sleep(0.1)
    process.send_signal(number)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == code
    assert "Traceback" not in said
    assert said.endswith("interrupted\n") == (number == signal.SIGINT)


def test_a_hangup_while_the_engine_is_opened_opens_it_again_and_does_no_harm(bundles: Bundles, tmp_path: Path) -> None:
    engine = bundles("mobilenet_v3_small").folder
    command = [sys.executable, "-c", SLOW, "serve", "--engine", str(engine), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=tmp_path, text=True)
    assert process.stderr is not None
    assert process.stderr.readline() == "opening\n"
    sleep(0.1)
    for _ in range(20):
        process.send_signal(signal.SIGHUP)
    (tmp_path / "go-on").touch()
    for line in process.stderr:
        if "reloaded" in line:
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0


@pytest.mark.parametrize("delay_s", [0.15, 0.3, 0.5, 0.8])
def test_ctrl_c_at_any_moment_of_the_start_is_interrupted(bundles: Bundles, delay_s: float) -> None:
    engine = bundles("mobilenet_v3_small").folder
    command = [sys.executable, "-m", "glass_rt", "serve", "--engine", str(engine), "--port", "0", "--quiet"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    sleep(delay_s)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30)[1]
    assert "Traceback" not in said
    assert process.returncode in (130, 0, -signal.SIGINT)  # stopped in order where it was ready; before Python begins
