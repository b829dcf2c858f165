"""One server process for all tests that leave it as they found it, and the detector that it must agree with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from glass_rt import Detector
from tests.glass_rt.serve.server_process import ServerProcess, start_server
from tests.support import Bundles


@pytest.fixture(scope="session")
def server(bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    log = tmp_path_factory.mktemp("server") / "log"
    running = start_server(bundles("resnet18").folder, log)
    yield running
    assert running.stop() == 0, log.read_text()


@pytest.fixture(scope="session")
def detector(bundles: Bundles) -> Iterator[Detector]:
    with Detector.open(bundles("resnet18").folder) as opened:
        yield opened
