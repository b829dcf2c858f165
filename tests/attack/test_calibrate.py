"""`glass-rt calibrate` killed at any moment: the bundle is as before or whole, and the same command goes on."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from glass_rt.bundle.bundle import Bundle
from tests.bench_zoo import write_bundle
from tests.glass_calibrate.scenes import write_scenes

TRIALS = min(50, int(os.environ.get("GLASS_RT_ATTACK_TRIALS", "2")))  # one takes a few seconds
ASKED = ("--fpr", "0.2", "--fnr", "0.2", "-q")  # 14 images of each class are enough
# Puts a decision in and takes it out, over and over: nearly every moment lies beside a rename.
EXCHANGE = """
import sys
from pathlib import Path
from glass_calibrate.exchange import import_decision
from glass_rt.bundle.decision import remove_calibration
bundle, decision = map(Path, sys.argv[1:])
while True:
    import_decision(bundle, decision)
    print("in", flush=True)
    remove_calibration(bundle)
"""

pytestmark = pytest.mark.attack


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"), 20)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("engines") / "zoo", "resize")


def start(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def calibrate(scenes: Path, bundle: Path, report: Path) -> subprocess.Popen[bytes]:
    return start("-m", "glass_rt", "calibrate", scenes, "--engine", bundle, *ASKED, "--report", report)


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_killed_anywhere_in_a_run(scenes: Path, engine: Path, tmp_path: Path) -> None:
    whole = Path(shutil.copytree(engine, tmp_path / "whole"))
    began = time.perf_counter()
    _, errors = (run := calibrate(scenes, whole, tmp_path / "report")).communicate()
    assert run.returncode == 0, errors
    seconds = time.perf_counter() - began
    states = {(engine / "manifest.json").read_bytes(), (whole / "manifest.json").read_bytes()}
    moments = random.Random(606)
    for trial in range(TRIALS):
        bundle = Path(shutil.copytree(engine, tmp_path / f"bundle{trial}"))
        report = tmp_path / f"report{trial}"
        killed = calibrate(scenes, bundle, report)
        time.sleep(seconds * (trial + moments.random()) / TRIALS)
        kill(killed)
        assert (bundle / "manifest.json").read_bytes() in states
        Bundle.open(bundle, every_file=True)
        if trial % 5 == 0:  # what is left behind is in nobody's way
            _, errors = (again := calibrate(scenes, bundle, report)).communicate()
            assert again.returncode == 0, errors
            assert (bundle / "manifest.json").read_bytes() == (whole / "manifest.json").read_bytes()


def test_killed_beside_the_rename(scenes: Path, engine: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(engine, tmp_path / "bundle"))
    _, errors = (run := calibrate(scenes, bundle, tmp_path / "report")).communicate()
    assert run.returncode == 0, errors
    states = {(engine / "manifest.json").read_bytes(), (bundle / "manifest.json").read_bytes()}
    moments = random.Random(607)
    for _ in range(TRIALS):
        exchange = start("-c", EXCHANGE, bundle, tmp_path / "report" / "decision.json")
        assert exchange.stdout is not None
        assert exchange.stdout.readline() == b"in\n"
        time.sleep(moments.random() / 20)
        kill(exchange)
        assert (bundle / "manifest.json").read_bytes() in states
        Bundle.open(bundle, every_file=True)
