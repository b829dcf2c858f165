from __future__ import annotations

from pathlib import Path

import pytest
from glass_bench.measure.systems import Description

from tests.bench_zoo import write_bundle, write_labelled_pictures

FAULTS = ("slow", "wrong", "failing")


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles by name: good, good_resize, and one per planted fault."""
    folder = tmp_path_factory.mktemp("zoo")
    found = {"good": write_bundle(folder / "good"), "good_resize": write_bundle(folder / "good_resize", "resize")}
    return found | {fault: write_bundle(folder / fault, fault=fault) for fault in FAULTS}


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six reddish pictures under `fake` and six bluish ones under `real`."""
    return write_labelled_pictures(tmp_path_factory.mktemp("labelled"))


@pytest.fixture
def description() -> Description:
    return Description("glass", "zoo", "onnxruntime", "fp32", "cpu", 2, 16, True, "weights", "bundle")
