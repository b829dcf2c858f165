"""By what the images of one run are labelled: the bundle's decision and the run's options as plain facts."""

from __future__ import annotations

from glass_rt.bundle.manifest import BundleManifest, Model
from glass_rt.decision.calibration import Conditions
from glass_rt.decision.decide import DecisionRule
from glass_rt.decision.tiers import InputFacts
from glass_rt.image.decode import ImageInfo
from glass_rt.image.sampling import Sampling
from glass_rt.image.views import PREPROCESSING
from glass_rt.options import DetectOptions


def decision_rule(manifest: BundleManifest, options: DetectOptions) -> DecisionRule:
    """The rule for images that this bundle judges with these options."""
    return DecisionRule(
        trained=manifest.model.weights.trained,
        threshold=manifest.threshold if options.threshold is None else options.threshold,
        threshold_chosen=options.threshold is not None,
        seed_chosen=options.seed is not None and draws_crops(manifest.model, options),
        calibration=manifest.decision,
        conditions=conditions_of(manifest, options),
    )


def conditions_of(manifest: BundleManifest, options: DetectOptions) -> Conditions:
    """How this bundle judges with these options, as far as scores depend on it."""
    model = manifest.model
    crops = None
    if draws_crops(model, options) and options.crops != "auto":
        crops = options.crops if isinstance(options.crops, int) else model.trained_crops
    return Conditions(
        precision=manifest.engine.precision,
        crops=crops,
        sampling=options.sampling if model.architecture == "glass" else None,
        draws=options.draws if model.architecture == "glass" else 1,
        preprocessing=PREPROCESSING,
    )


def draws_crops(model: Model, options: DetectOptions) -> bool:
    """Whether crops are drawn with a seed: neither every window, nor none."""
    return model.architecture == "glass" and options.sampling == "stratified"


def facts_of(info: ImageInfo, sampling: Sampling | None) -> InputFacts:
    """What tells an image's tier."""
    drawn = sampling is not None and sampling.mode == "stratified"
    stratified = sampling.stratified if sampling is not None and drawn else None
    return InputFacts(info.width, info.height, info.format, info.jpeg_quality, stratified)
