"""The decision in a bundle's manifest: put in by one rename, taken out again, bound to one content."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.decision import content_sha256_of, install_calibration, remove_calibration
from glass_rt.bundle.folder import MANIFEST
from glass_rt.errors import BundleInvalid, BundleNotFound, CalibrationInvalid, GlassError
from glass_rt.machine.one_writer import locked_file
from tests.bench_zoo import write_bundle
from tests.calibrations import calibrate, calibration_for, tier


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def manifest_of(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    return values


def write_values(folder: Path, values: Any) -> None:
    (folder / MANIFEST).write_text(json.dumps(values, indent=2) + "\n")


def test_a_decision_comes_and_goes_and_the_manifest_is_as_before(bundle: Path) -> None:
    before = (bundle / MANIFEST).read_bytes()
    plain = Bundle.open(bundle)
    assert plain.sha256 == plain.content_sha256 == content_sha256_of(bundle)
    calibration = calibrate(bundle)
    opened = Bundle.open(bundle)
    assert opened.manifest.decision == calibration
    assert manifest_of(bundle)["schema"] == 2
    assert opened.content_sha256 == plain.sha256  # what parity and caches are bound to
    assert opened.sha256 != plain.sha256  # what --expect-bundle pins
    assert remove_calibration(bundle)
    assert (bundle / MANIFEST).read_bytes() == before
    assert not remove_calibration(bundle)


def test_another_decision_takes_the_place_of_the_first(bundle: Path) -> None:
    first = calibrate(bundle)
    second = calibrate(bundle, tier("all", 0.9, 0.1))
    assert Bundle.open(bundle).manifest.decision == second != first


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("mode", [0o644, 0o600, 0o444])
def test_who_could_read_the_manifest_still_can(bundle: Path, mode: int) -> None:
    (bundle / MANIFEST).chmod(mode)
    before = os.umask(0o077)  # as root's often is, and the service's account is another
    try:
        calibrate(bundle)
    finally:
        os.umask(before)
    assert (bundle / MANIFEST).stat().st_mode & 0o777 == mode


def test_files_that_are_linked_elsewhere_are_not_touched(bundle: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.json"
    os.link(bundle / MANIFEST, elsewhere)
    before = elsewhere.read_bytes()
    calibrate(bundle)
    remove_calibration(bundle)
    calibrate(bundle)
    assert elsewhere.read_bytes() == before


def test_a_manifest_that_was_formatted_by_hand_keeps_its_content_hash(bundle: Path) -> None:
    (bundle / MANIFEST).write_text(json.dumps(manifest_of(bundle)))
    before = Bundle.open(bundle)
    calibrate(bundle)
    assert Bundle.open(bundle).content_sha256 == before.content_sha256 != before.sha256


ELSEWHERE = [
    ("another threshold of the bundle", lambda v: v.update(threshold=0.4), "measured with the content"),
    ("another tool", lambda v: v["tools"].update(onnx="9"), "measured with the content"),
    ("untrained weights", lambda v: v["model"]["weights"].update(trained=False), "untrained"),
    ("another precision", lambda v: v["engine"].update(precision="fp16"), "measured with the content"),
    ("no weights any more", lambda v: v["decision"].update(files={}), "it was altered"),
    ("schema 1", lambda v: v.update(schema=1), "a bundle with a decision has schema 2"),
    ("schema 3", lambda v: v.update(schema=3), "reads schemas 1 and 2"),
    ("schema true", lambda v: v.update(schema=True), "reads schemas 1 and 2"),
    ("schema 2 and no decision", lambda v: v.pop("decision"), "a bundle with a decision has schema 2"),
    ("schema 2 and null", lambda v: v.update(decision=None), "a bundle with a decision has schema 2"),
    ("a field that is not known", lambda v: v["decision"].update(x=1), "decision: unknown field 'x'"),
    ("thresholds that cross", lambda v: v["decision"]["tiers"][0]["thresholds"].update(real_below=1), "they cross"),
    ("no tiers", lambda v: v["decision"].pop("tiers"), "decision.tiers is missing"),
    ("a list", lambda v: v.update(decision=[]), "expected an object"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "message"), ELSEWHERE, ids=[case[0] for case in ELSEWHERE])
def test_a_decision_in_another_manifest_is_refused_and_can_be_taken_out(
    name: str, change: Any, message: str, bundle: Path
) -> None:
    calibrate(bundle)
    values = manifest_of(bundle)
    change(values)
    write_values(bundle, values)
    with pytest.raises(BundleInvalid, match=message) as refused:
        Bundle.open(bundle)
    assert "\n" not in str(refused.value)
    if values["schema"] in (1, 2) and values["schema"] is not True:
        remove_calibration(bundle)
        assert manifest_of(bundle)["schema"] == 1


def test_nan_in_a_decision_is_refused(bundle: Path) -> None:
    calibrate(bundle)
    text = (bundle / MANIFEST).read_text()
    (bundle / MANIFEST).write_text(text.replace('"fake_above": 0.6', '"fake_above": NaN'))
    with pytest.raises(BundleInvalid, match="NaN is not a number"):
        Bundle.open(bundle)


def test_a_calibration_of_another_bundle_is_not_installed(bundle: Path, tmp_path: Path) -> None:
    other = write_bundle(tmp_path / "other", classes=("real", "fake"))
    before = (other / MANIFEST).read_bytes()
    with pytest.raises(CalibrationInvalid, match="measured with the content"):
        install_calibration(other, calibration_for(bundle))
    assert (other / MANIFEST).read_bytes() == before


def test_untrained_weights_are_not_calibrated(bundle: Path) -> None:
    values = manifest_of(bundle)
    values["model"]["weights"]["trained"] = False
    write_values(bundle, values)
    with pytest.raises(CalibrationInvalid, match="untrained"):
        calibrate(bundle)


def test_one_process_calibrates_at_a_time(bundle: Path) -> None:
    calibration = calibration_for(bundle)
    (bundle / "cache").mkdir()
    with (
        locked_file(bundle / "cache" / f"{MANIFEST}-lock"),
        pytest.raises(GlassError, match="is being calibrated by process"),
    ):
        install_calibration(bundle, calibration)


def test_a_manifest_that_cannot_be_written_stays_as_it_was(bundle: Path) -> None:
    calibration = calibration_for(bundle)
    before = (bundle / MANIFEST).read_bytes()
    (bundle / "cache").write_text("in the way")
    with pytest.raises(GlassError, match=r"cannot be written: .*; the bundle is as it was"):
        install_calibration(bundle, calibration)
    assert (bundle / MANIFEST).read_bytes() == before


def test_a_folder_that_is_no_bundle_is_left_alone(tmp_path: Path) -> None:
    for change in (lambda: remove_calibration(tmp_path), lambda: content_sha256_of(tmp_path)):
        with pytest.raises(BundleNotFound):
            change()
    assert not list(tmp_path.iterdir())


def test_what_a_killed_writer_left_is_passed_over_and_removed(bundle: Path) -> None:
    calibrate(bundle)
    (bundle / "cache" / f"{MANIFEST}.0a1b2c3d").write_text("{")
    Bundle.open(bundle)
    calibrate(bundle)
    assert not list((bundle / "cache").iterdir())


TOGGLE = """
import sys
from pathlib import Path
from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.decision import install_calibration, remove_calibration
folder = Path(sys.argv[1])
calibration = Bundle.open(folder).manifest.decision
print("begun", flush=True)
while True:
    remove_calibration(folder)
    install_calibration(folder, calibration)
"""


@pytest.mark.slow
def test_a_writer_that_is_killed_at_any_moment_leaves_a_whole_bundle(bundle: Path) -> None:
    calibration = calibrate(bundle)
    content = content_sha256_of(bundle)
    wholes = {hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest(), content}
    for moment in range(10):
        install_calibration(bundle, calibration)
        with subprocess.Popen([sys.executable, "-c", TOGGLE, str(bundle)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline()
            time.sleep(moment * 0.001_7)
            writer.send_signal(signal.SIGKILL)
        opened = Bundle.open(bundle)
        assert opened.sha256 in wholes
        assert opened.content_sha256 == content
