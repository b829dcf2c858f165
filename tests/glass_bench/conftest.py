from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from glass_rt.cli import cli

from glass_bench.systems import Description
from tests.glass_bench import zoo


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The zoo: good, slow, wrong, failing, resize."""
    folder = tmp_path_factory.mktemp("zoo")
    found = {"good": zoo.write_bundle(folder / "good"), "resize": zoo.write_bundle(folder / "good_resize", "resize")}
    for fault in ("slow", "wrong", "failing"):
        found[fault] = zoo.write_bundle(folder / fault, fault=fault)
    return found


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo.write_labelled_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def run() -> Callable[..., tuple[int, str]]:
    """Runs `glass-rt ...` in this process: (exit code, stdout)."""

    def command(*words: object) -> tuple[int, str]:
        result = CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return int(result.return_value or 0), result.stdout

    return command


@pytest.fixture
def description() -> Description:
    return Description("glass", "zoo", "onnxruntime", "fp32", "cpu", 2, 16, True, "weights", "bundle")
