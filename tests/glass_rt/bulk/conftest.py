from __future__ import annotations

import pytest

from glass_rt.bundle.bundle import Bundle
from tests.support import Bundles


@pytest.fixture(scope="session")
def bundle(bundles: Bundles) -> Bundle:
    return bundles("mobilenet_v3_small")
