"""What the tests of bulk jobs share: small photographs, files that do harm, and what `infer` says of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glass_rt import DetectOptions, Detector
from glass_rt.bundle.bundle import Bundle
from tests.glass_rt.bulk.planted import POISON
from tests.support import IMAGES_VARIABLE, Bundles, folder_named_by

SMALL = 500_000  # bytes


@pytest.fixture(scope="session")
def bundle(bundles: Bundles) -> Bundle:
    return bundles("mobilenet_v3_small")


@pytest.fixture(scope="session")
def photographs(pictures: tuple[Path, ...]) -> tuple[Path, ...]:
    """Real images where the environment names some, the generated pictures elsewhere."""
    named = folder_named_by(IMAGES_VARIABLE)
    if named is None:
        return pictures
    found = (path for kind in ("real", "fake") for path in sorted((named / kind).rglob("*.*")))
    small = sorted(path for path in found if path.suffix in (".jpg", ".png") and path.stat().st_size < SMALL)
    return tuple(small[:24]) or pictures


@pytest.fixture(scope="session")
def poison(photographs: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JPEG that is a good one everywhere but under the planted decoder, which dies of it."""
    good = next(path for path in photographs if path.suffix == ".jpg")
    path = tmp_path_factory.mktemp("poison") / "poison.jpg"
    path.write_bytes(good.read_bytes() + POISON)
    return path


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
    for name in ("label", "probability_fake", "threshold", "trained", "sha256", "width", "height", "format", "seed"):
        assert row[name] == verdict[name], name
    for name in ("orientation", "sampling", "stratified", "grid", "trained_crops"):
        assert row[name] == verdict[name], name
    for found, expected in zip(row["crops"], verdict["crops"], strict=True):
        assert found == expected, row["path"]
    assert list(row["logits"]) == list(verdict["logits"])
    assert list(row["notices"]) == list(verdict["notices"])
    assert row["bundle_sha256"] == verdict["engine"]["bundle_sha256"]
    assert (row["engine"], row["backend"]) == (verdict["engine"]["name"], verdict["engine"]["backend"])
