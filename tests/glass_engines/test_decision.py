"""A bundle that is built from a calibrated one: the same content keeps the decision, any other drops it and says so."""

from pathlib import Path

import pytest
from glass_engines.build import BuildOptions, build_bundle

from glass_rt.bundle.bundle import Bundle, PortableModel
from tests.calibrations import calibrate
from tests.support import Cli

MODEL = Path(__file__).parents[2] / "benchmarks" / "demo_weights" / "resize"  # small, and trained
ORT = BuildOptions("onnxruntime")


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrated") / "bundle"
    build_bundle(PortableModel.open(MODEL), folder, ORT)
    calibrate(folder)
    return folder


def test_the_same_content_keeps_the_decision(calibrated: Path, tmp_path: Path) -> None:
    remarks: list[str] = []
    built = build_bundle(PortableModel.open(calibrated), tmp_path / "again", ORT, remark=remarks.append)
    assert built.manifest == Bundle.open(calibrated).manifest
    assert built.manifest.decision is not None
    assert remarks == []


@pytest.mark.parametrize(
    "other",
    [
        BuildOptions("onnxruntime", max_batch=8),
        pytest.param(BuildOptions("openvino"), marks=pytest.mark.slow),
    ],
    ids=["other batches", "another backend"],
)
def test_other_content_drops_the_decision_and_says_so(calibrated: Path, tmp_path: Path, other: BuildOptions) -> None:
    if other.backend == "openvino":
        pytest.importorskip("openvino")
    remarks: list[str] = []
    built = build_bundle(PortableModel.open(calibrated), tmp_path / "other", other, remark=remarks.append)
    assert built.manifest.decision is None
    (remark,) = remarks
    assert f"{calibrated} is calibrated" in remark
    assert "glass-rt calibrate" in remark


def test_the_command_says_that_a_decision_is_left_out(cli: Cli, calibrated: Path, tmp_path: Path) -> None:
    arguments = ("--from", calibrated, "--backend", "onnxruntime", "--output", tmp_path / "other", "--quiet")
    done = cli("build", *arguments, "--max-batch", 8)
    assert (done.returncode, done.stderr.count("the decision is left out")) == (0, 1)
    shown = cli("inspect", calibrated).stdout.splitlines()
    first = next(number for number, line in enumerate(shown) if line.startswith("decision"))
    assert "calibration" in shown[first]
    assert [bool(line.startswith(" ")) for line in shown[first + 1 : first + 6]] == [True] * 4 + [False]  # five lines
    assert "not calibrated" in cli("inspect", tmp_path / "other").stdout
