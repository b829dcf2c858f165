"""What `infer` says of images, and whether the row of a bulk job says the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glass_rt import DetectOptions, Detector
from glass_rt.bundle.bundle import Bundle


def inferred(bundle: Bundle, paths: list[Path], options: DetectOptions | None = None) -> list[dict[str, Any]]:
    """What `glass-rt infer --json` gives for each of the paths."""
    with Detector.open(bundle.folder) as detector:
        return [result.to_json() for result in detector.detect_many(paths, options)]


def assert_same(row: dict[str, Any], verdict: dict[str, Any]) -> None:
    """The row says what the verdict says, to the last bit."""
    if "error" in verdict:
        assert (row["error_kind"], row["error"]) == (verdict["error"]["kind"], verdict["error"]["message"])
        assert row["label"] is None
        return
    assert row["error_kind"] is None
    for name in ("label", "probability_fake", "trained", "sha256", "width", "height", "format", "jpeg_quality", "seed"):
        assert row[name] == verdict[name], name
    for name in ("orientation", "sampling", "stratified", "grid", "trained_crops"):
        assert row[name] == verdict[name], name
    assert row["calibrated_probability_fake"] == verdict["calibrated_probability_fake"]
    for name in ("basis", "tier", "reason", "threshold", "guarantee", "prior"):
        assert row[name] == verdict["decision"][name], name
    assert row["decision_id"] == verdict["decision"]["id"]
    for found, expected in zip(row["crops"], verdict["crops"], strict=True):
        assert found == expected, row["path"]
    assert list(row["logits"]) == list(verdict["logits"])
    assert list(row["notices"]) == list(verdict["notices"])
    assert row["bundle_sha256"] == verdict["engine"]["bundle_sha256"]
    assert (row["engine"], row["backend"]) == (verdict["engine"]["name"], verdict["engine"]["backend"])
