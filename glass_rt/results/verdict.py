"""What comes out: a verdict with its evidence, or a failure in its place, and their JSON form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from glass_rt.decision.decide import Decision, Label
from glass_rt.decision.tiers import InputFacts
from glass_rt.errors import GlassError, ImageError, ImageNotReadable
from glass_rt.results.file_names import text_from_name
from glass_rt.version import __version__

SCHEMA = 2
FORMER_SCHEMA = 1  # lines of results that earlier versions wrote; see docs/reference/verdict.md
RESERVED = ("provenance", "probe")  # names of fields to come
UNTRAINED = "UNTRAINED WEIGHTS: this verdict says nothing about the image"
UNTRAINED_BUNDLE = "UNTRAINED WEIGHTS: verdicts of this bundle say nothing about images"


@dataclass(frozen=True)
class CropEvidence:
    """One crop: where it is, in stored pixels, and what it did.

    `width` and `height` are the part inside the image. `attention` is its weight among the crops; `effect` is
    probability_fake minus what that would be without this crop (None for an only crop): attention is weighting,
    effect is evidence.
    """

    left: int
    top: int
    width: int
    height: int
    attention: float
    effect: float | None


@dataclass(frozen=True)
class Draws:
    """P(fake) of each independent sampling, their mean (which decides the label) and their standard deviation."""

    probabilities_fake: tuple[float, ...]
    mean: float
    standard_deviation: float


@dataclass(frozen=True)
class EngineInfo:
    """Which engine spoke."""

    name: str
    architecture: str
    backbone: str
    backend: str
    precision: str
    bundle_sha256: str
    weights_sha256: str


@dataclass(frozen=True)
class Timings:
    """Milliseconds per stage. In a batch, `engine` is the image's share of the batch's time."""

    decode: float
    views: float
    engine: float
    aggregate: float
    total: float


@dataclass(frozen=True)
class Verdict:
    """The judgement of one image.

    `decision` says what `probability_fake` means. `jpeg_quality`: 1..100, as its tables tell it; None of other formats.
    `seed`, `sampling`, `stratified`, `grid` and `crops` are None, None, None, None and () for the resize-only
    architecture; `draws` is None unless several were asked for.
    `trained` False means that the number is noise.
    """

    path: str | None
    sha256: str
    width: int
    height: int
    format: str
    jpeg_quality: int | None
    decision: Decision
    probability_fake: float
    probabilities: dict[str, float]
    logits: tuple[float, float]
    trained: bool
    seed: int | None
    sampling: str | None
    stratified: bool | None
    grid: int | None
    trained_crops: int
    crops: tuple[CropEvidence, ...]
    draws: Draws | None
    orientation: int
    notices: tuple[str, ...]
    engine: EngineInfo
    timings_ms: Timings

    @property
    def label(self) -> Label:
        """`fake`, `real`, `unsure`, or `none` for untrained weights."""
        return self.decision.label

    @property
    def facts(self) -> InputFacts:
        """What tells the tier of the image."""
        stratified = self.stratified if self.sampling == "stratified" else None
        return InputFacts(self.width, self.height, self.format, self.jpeg_quality, stratified)

    def to_json(self) -> dict[str, Any]:
        """The JSON object that `glass-rt infer --json` prints; its path is `text_from_name`'s."""
        return {
            "schema": SCHEMA,
            "path": _text(self.path),
            **{name: getattr(self, name) for name in ("sha256", "width", "height", "format", "jpeg_quality")},
            "label": self.label,
            "calibrated_probability_fake": self.decision.probability,
            "probability_fake": self.probability_fake,
            "probabilities": dict(self.probabilities),
            **{name: getattr(self, name) for name in ("logits", "trained", "seed", "sampling", "stratified", "grid")},
            "trained_crops": self.trained_crops,
            "crops": tuple(dict(vars(crop)) for crop in self.crops),
            "draws": None if self.draws is None else dict(vars(self.draws)),
            "orientation": self.orientation,
            "notices": self.notices,
            "engine": dict(vars(self.engine)),
            "timings_ms": dict(vars(self.timings_ms)),
            "decision": self.decision.to_json(),
            "runtime": __version__,
        }


@dataclass(frozen=True)
class Failure:
    """An image that could not be judged, in its place among the verdicts."""

    path: str | None
    error: GlassError

    @property
    def sha256(self) -> str | None:
        """SHA-256 of the image's file, in hexadecimal; None where it was not read."""
        return self.error.sha256 if isinstance(self.error, ImageError) else None

    @property
    def lasting(self) -> bool:
        """Whether the image's own content is at fault: files that cannot be read and engines that fail may recover."""
        return isinstance(self.error, ImageError) and not isinstance(self.error, ImageNotReadable)

    def to_json(self) -> dict[str, Any]:
        """The JSON object that stands where a verdict would."""
        error = {"kind": self.error.kind, "message": text_from_name(str(self.error))}
        known = {} if self.sha256 is None else {"sha256": self.sha256}
        return {"schema": SCHEMA, "path": _text(self.path), **known, "error": error}


def _text(path: str | None) -> str | None:
    return None if path is None else text_from_name(path)
