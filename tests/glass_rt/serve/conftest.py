"""One `glass-rt serve` process for all tests that leave it unharmed, and the detector that gives the expected verdicts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from glass_rt import Detector
from tests.serving import Plant, Process, serve_process
from tests.support import Bundles

MAX_BODY = 8 << 20


@pytest.fixture(scope="session")
def server(bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """`glass-rt serve` on a small model, with bodies of at most 8 MiB and 2 s to arrive in."""
    folder = tmp_path_factory.mktemp("serve")
    options = ("--max-body", "8M", "--max-crops", "20", "--body-timeout", "3", "--header-timeout", "2")
    with serve_process(bundles("mobilenet_v3_small").folder, folder, *options) as started:
        yield started
        assert started.stop() == 0


@pytest.fixture(scope="session")
def whole_server(bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """`glass-rt serve` with its defaults, and with gRPC."""
    folder = tmp_path_factory.mktemp("whole_server")
    with serve_process(bundles("mobilenet_v3_small").folder, folder, "--grpc-port", "0") as started:
        yield started
        assert started.stop() == 0


@pytest.fixture(scope="session")
def judge(bundles: Bundles) -> Iterator[Detector]:
    """The same bundle in this process, which gives the expected verdicts."""
    with Detector.open(bundles("mobilenet_v3_small").folder) as opened:
        yield opened


@pytest.fixture
def plant(bundles: Bundles) -> Plant:
    """Opens detectors whose engine a test can block and make fail."""
    return Plant(bundles("mobilenet_v3_small"))


@pytest.fixture(scope="session")
def picture(pictures: tuple[Path, ...]) -> bytes:
    """A JPEG of 640 x 480, encoded."""
    return next(path for path in pictures if path.name.startswith("640x480")).read_bytes()
