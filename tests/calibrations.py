"""Calibrations for tests: made for a bundle, with thresholds that are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.decision import decided_files, install_calibration
from glass_rt.decision.calibration import Calibration, Conditions, Guarantee, Thresholds, Tier
from glass_rt.decision.probability import ProbabilityCurve
from glass_rt.decision.tiers import TierRule
from glass_rt.image.views import PREPROCESSING

GUARANTEE = Guarantee(0.95, fpr=0.01, images=300, above=0, fnr=0.05, fakes=310, below=9)
CURVE = ProbabilityCurve("logistic", 0.5, temperature=2.0, bias=-0.25)


def tier(name: str, fake_above: float, real_below: float, rule: TierRule | None = None) -> Tier:
    """A tier with thresholds."""
    return Tier(name, rule or TierRule(), Thresholds(fake_above, real_below), GUARANTEE)


def calibration_for(
    folder: Path, *tiers: Tier, curve: ProbabilityCurve | None = CURVE, **conditions: Any
) -> Calibration:
    """A calibration of the bundle in `folder`, under the conditions that `infer` has without options."""
    bundle = Bundle.open(folder)
    model = bundle.manifest.model
    glass = model.architecture == "glass"
    usual: dict[str, Any] = {
        "precision": bundle.manifest.engine.precision,
        "crops": model.trained_crops if glass else None,
        "sampling": "stratified" if glass else None,
        "draws": 1,
        "preprocessing": PREPROCESSING,
    }
    found = tiers or (tier("the rest", 0.6, 0.4),)
    return Calibration.new(
        bundle.content_sha256, decided_files(bundle.manifest), Conditions(**{**usual, **conditions}), found, curve
    )


def calibrate(folder: Path, *tiers: Tier, **conditions: Any) -> Calibration:
    """Installs such a calibration in the bundle."""
    calibration = calibration_for(folder, *tiers, **conditions)
    install_calibration(folder, calibration)
    return calibration
