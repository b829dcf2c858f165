"""One text names a device on every surface: what it refuses is said alike, in a line, and with exit code 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from glass_rt import Detector
from glass_rt.errors import UsageError
from tests.bench_zoo import write_bundle, write_labelled_pictures
from tests.command_line import Cli

# Commands that run engines, or speak of it. `{bundle}`, `{pictures}` and `{new}` are folders.
SURFACES = {
    "infer": "infer {pictures} --engine {bundle}",
    "serve": "serve --engine {bundle} --port 0",
    "bulk": "bulk {pictures} --engine {bundle} --output {new}",
    "eval": "eval {pictures} --engine {bundle} --output {new}",
    "bench": "bench --images {pictures} --engine {bundle} --output {new} --quick --no-pytorch",
    "calibrate": "calibrate {pictures} --engine {bundle} --fpr 0.9 --fnr 0.9 --dry-run --report {new}",
    "verify": "verify {bundle}",
    "inspect": "inspect {bundle}",
    "triton": "triton --engine {bundle} --output {new}",
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("devices") / "zoo")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labelled_pictures(tmp_path_factory.mktemp("pictures"), 1)


@pytest.mark.parametrize("name", SURFACES)
@pytest.mark.parametrize("device", ["tpu", "cuda:x", "coreml:0", "plugin:", "cpu,threads=2"])
def test_what_is_no_device_is_refused_alike_by_every_command(
    cli: Cli, bundle: Path, pictures: Path, tmp_path: Path, name: str, device: str
) -> None:
    words = SURFACES[name].format(bundle=bundle, pictures=pictures, new=tmp_path / "new").split()
    done = cli(*words, "--device", device)
    assert done.returncode == 2, done.stderr
    assert f"device: got '{device}'; " in done.stderr
    assert "cuda or cuda:N" in done.stderr
    assert not (tmp_path / "new").exists()


def test_so_it_is_in_python(bundle: Path) -> None:
    with pytest.raises(UsageError, match="device: got 'tpu'; ONNX Runtime engines run on cpu, cuda or cuda:N, coreml"):
        Detector.open(bundle, device="tpu")
    with Detector.open(bundle, device="cpu") as detector:
        assert detector.device == "cpu"


def test_another_device_needs_the_portable_graph(cli: Cli, bundle: Path, pictures: Path) -> None:
    """Which this bundle does not carry; what was compiled for CPUs is not run elsewhere."""
    done = cli("infer", pictures, "--engine", bundle, "--device", "coreml")
    assert done.returncode == 2
    assert "without the graph that this device needs: build it without --slim" in done.stderr


def test_inspect_says_what_is_known_of_the_parity_there(cli: Cli, bundle: Path) -> None:
    assert "parity        passed" in cli("inspect", bundle).stdout
    assert "parity        on cpu: passed" in cli("inspect", bundle, "--device", "cpu").stdout
    told = [json.loads(cli("inspect", bundle, "--json", *more).stdout) for more in ((), ("--device", "coreml"))]
    assert [each["parity"]["status"] for each in told] == ["passed", "pending"]
    assert "parity        on dml:1: pending: settled" in cli("inspect", bundle, "--device", "dml:1").stdout
