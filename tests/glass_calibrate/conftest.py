from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.bench_zoo import write_bundle
from tests.glass_calibrate.scenes import write_scenes
from tests.support import Cli

ASKED = ("--fpr", 0.05, "--fnr", 0.1)  # 59 real images and 29 fakes are enough


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled pictures whose scores overlap: 70 of each class, from two sources."""
    return write_scenes(tmp_path_factory.mktemp("scenes"), 70)


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that nobody calibrates."""
    return write_bundle(tmp_path_factory.mktemp("engines") / "zoo", "resize")


@pytest.fixture
def bundle(engine: Path, tmp_path: Path) -> Path:
    """A copy of it, to be calibrated."""
    return Path(shutil.copytree(engine, tmp_path / "zoo"))


@pytest.fixture(scope="session")
def report(scenes: Path, engine: Path, cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a dry run on the scenes, with their scores."""
    folder = tmp_path_factory.mktemp("report") / "zoo"
    done = cli("calibrate", scenes, "--engine", engine, *ASKED, "--report", folder, "--dry-run", "-q")
    assert done.returncode == 0, done.stderr
    return folder
