"""The decision of a bundle that another one is built from: it holds for the same content, and for no other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from glass_rt.bundle.decision import content_sha256_of, install_calibration
from glass_rt.bundle.folder import MANIFEST, read_manifest
from glass_rt.bundle.manifest import bundle_from_json
from glass_rt.decision.calibration import Calibration
from glass_rt.errors import GlassError


def keep_decision(folder: Path, predecessors: Iterable[Path], remark: Callable[[str], None]) -> None:
    """Gives the new bundle in `folder` the decision of the first predecessor that has one for the same content.

    `remark` is told of every other decision that is left out.
    """
    content = content_sha256_of(folder)
    kept: Calibration | None = None
    for bundle in dict.fromkeys(predecessors):
        decision = _decision_of(bundle)
        if decision is None or decision == kept:
            continue
        if kept is None and decision.content_sha256 == content:
            install_calibration(folder, decision)
            kept = decision
        else:
            remark(
                f"decision: {bundle} is calibrated ({decision.id}); this bundle has other content, so its scores are "
                "others: the decision is left out. Calibrate anew: glass-rt calibrate LABELLED --engine DIR"
            )


def _decision_of(bundle: Path) -> Calibration | None:
    """What a folder's manifest holds; None where there is no such folder, or it is no whole bundle."""
    try:
        return bundle_from_json(read_manifest(bundle), str(bundle / MANIFEST)).decision
    except GlassError:
        return None
