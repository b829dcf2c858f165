"""What of a run's options makes its scores others than those that were calibrated."""

from pathlib import Path
from typing import Any

import pytest

from glass_rt import DetectOptions, Detector
from glass_rt.bundle.bundle import Bundle
from glass_rt.errors import BundleInvalid
from glass_rt.inference.decision_rule import conditions_of, decision_rule
from tests.bench_zoo import write_bundle, write_picture
from tests.calibrations import calibrate, calibration_for

OTHER: list[dict[str, Any]] = [{"crops": 1}, {"crops": "auto"}, {"draws": 2}, {"sampling": "tiles"}]
SAME: list[dict[str, Any]] = [{}, {"crops": 2}, {"max_pixels": 10**6}, {"margin": 1.0}]  # 2 crops: as trained


@pytest.mark.parametrize("options", OTHER + SAME, ids=str)
def test_other_conditions_than_calibrated_give_unsure(tmp_path: Path, options: dict[str, Any]) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    calibrate(bundle)
    with Detector.open(bundle) as detector:
        verdict = detector.detect(
            write_picture(tmp_path / "red.png", (250, 20, 20), 640, 480), DetectOptions(**options)
        )
    if options in SAME:
        assert (verdict.label, verdict.decision.reason) == ("fake", None)
    else:
        assert verdict.label == "unsure"
        assert (verdict.decision.reason or "").startswith("calibrated for fp32, 2 crops, stratified, 1 draw")


@pytest.mark.parametrize("options", OTHER[:1] + OTHER[2:], ids=str)
def test_other_conditions_can_be_calibrated(tmp_path: Path, options: dict[str, Any]) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    measured = conditions_of(Bundle.open(bundle).manifest, DetectOptions(**options))
    calibration = calibrate(bundle, **vars(measured))
    with Detector.open(bundle) as detector:
        picture = write_picture(tmp_path / "red.png", (250, 20, 20), 640, 480)
        assert detector.detect(picture, DetectOptions(**options)).decision.tier == "the rest"
        assert detector.detect(picture).decision.tier is None
        assert detector.detect(picture).decision.id == calibration.id


def test_the_resize_only_model_has_no_crops_to_differ_in(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", "resize")
    calibrate(bundle)
    manifest = Bundle.open(bundle).manifest
    for options in (DetectOptions(), DetectOptions(crops=7, seed=3), DetectOptions(draws=2)):
        rule = decision_rule(manifest, options)
        assert rule.calibration is not None
        assert rule.conditions == rule.calibration.conditions
        assert not rule.seed_chosen


def test_another_version_of_preprocessing_gives_unsure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    calibrate(bundle)
    monkeypatch.setattr("glass_rt.inference.decision_rule.PREPROCESSING", 99)
    with Detector.open(bundle) as detector:
        decision = detector.detect(write_picture(tmp_path / "red.png", (250, 20, 20), 640, 480)).decision
    assert decision.label == "unsure"
    assert "preprocessing 99" in (decision.reason or "")


def test_one_byte_of_a_file_refuses_the_bundle(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    calibrate(bundle)
    for name in ("global.onnx", "local.onnx", "head.safetensors"):
        content = (bundle / name).read_bytes()
        (bundle / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(BundleInvalid, match=name):
            Bundle.open(bundle)
        (bundle / name).write_bytes(content)
    Bundle.open(bundle)


def test_one_byte_of_the_manifest_refuses_the_bundle_or_leaves_it_uncalibrated_never_otherwise_calibrated(
    tmp_path: Path,
) -> None:
    """Every byte of the manifest in turn: what still opens has the very decision, or is no calibrated bundle."""
    bundle = write_bundle(tmp_path / "bundle")
    calibration = calibration_for(bundle)
    calibrate(bundle)
    manifest = bundle / "manifest.json"
    content = manifest.read_bytes()
    accepted = []
    for position in range(0, len(content), 3):
        manifest.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        try:
            opened = Bundle.open(bundle)
        except (BundleInvalid, ValueError):
            continue
        accepted.append(position)
        assert opened.manifest.decision in (None, calibration)
    # What is accepted is white space, which says nothing.
    assert all(content[position : position + 1].isspace() for position in accepted)
