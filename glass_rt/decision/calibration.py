"""What a calibration found, as a bundle's manifest holds it: thresholds with their guarantees, tier by tier.

A score is `probability_fake` of a verdict: a float32 number held as a float. Thresholds are floats, compared with it as
they are. JSON keeps both to the last bit, so a comparison comes out alike before and after a bundle was written.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from glass_rt.decision.probability import ProbabilityCurve
from glass_rt.decision.tiers import NamedRule, check_table
from glass_rt.errors import CalibrationInvalid

NO_ID = ""
LONGEST_REASON = 300  # characters
_HEXADECIMAL = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Thresholds:
    """`fake` strictly above `fake_above`, `real` strictly below `real_below`, both 0..1; None: never."""

    fake_above: float | None
    real_below: float | None

    def __post_init__(self) -> None:
        given = [value for value in (self.fake_above, self.real_below) if value is not None]
        if not given or not all(0 <= value <= 1 for value in given):  # also NaN
            raise CalibrationInvalid(
                f"thresholds: got fake_above {self.fake_above} and real_below {self.real_below}; expected scores, 0..1"
            )
        if self.fake_above is not None and self.real_below is not None and self.real_below > self.fake_above:
            raise CalibrationInvalid(
                f"thresholds: real_below {self.real_below} is above fake_above {self.fake_above}: they cross"
            )
        for name in ("fake_above", "real_below"):  # Python's own number: an integer would get another id from JSON
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else float(value))

    def label(self, score: float) -> Literal["fake", "real"] | None:
        """`fake` or `real`; None for a score between the thresholds."""
        if self.fake_above is not None and score > self.fake_above:
            return "fake"
        return "real" if self.real_below is not None and score < self.real_below else None


@dataclass(frozen=True)
class Guarantee:
    """What is guaranteed of a tier, at `confidence`: at most `fpr` of real images are labelled fake.

    Seen on `images` real ones, of which `above` have a score above `fake_above`. Likewise at most `fnr` of fakes are
    labelled real, seen on `fakes`, of which `below` lie below `real_below`. None, all three, where only one of the two
    was asked for.
    """

    confidence: float
    fpr: float | None = None
    images: int | None = None
    above: int | None = None
    fnr: float | None = None
    fakes: int | None = None
    below: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise CalibrationInvalid(f"guarantee: got confidence {self.confidence}; expected a share between 0 and 1")
        _check_side("fpr", self.fpr, self.images, self.above)
        _check_side("fnr", self.fnr, self.fakes, self.below)
        if self.fpr is None and self.fnr is None:
            raise CalibrationInvalid("guarantee: it names neither fpr nor fnr")


def _check_side(name: str, rate: float | None, images: int | None, beyond: int | None) -> None:
    if rate is None or images is None or beyond is None:
        if not (rate is None and images is None and beyond is None):
            raise CalibrationInvalid(f"guarantee: {name} comes with its number of images, and how many lie beyond")
        return
    if not 0 < rate < 1:
        raise CalibrationInvalid(f"guarantee: got {name} {rate}; expected a share between 0 and 1")
    if not 0 <= beyond < images:
        raise CalibrationInvalid(f"guarantee: got {beyond} of {images} images beyond the threshold of {name}")


@dataclass(frozen=True)
class Tier(NamedRule):
    """One tier as calibrated: thresholds with their guarantee, or the `reason` why it has none.

    The tier of an image is the first of the calibration whose rule takes it.
    """

    thresholds: Thresholds | None = None
    guarantee: Guarantee | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.thresholds is None or self.guarantee is None:
            readable = self.reason is not None and 0 < len(self.reason) <= LONGEST_REASON and self.reason.isprintable()
            if self.thresholds is not None or self.guarantee is not None or not readable:
                raise CalibrationInvalid(
                    f"tier {self.name!r}: expected thresholds with a guarantee, or a reason in one line"
                )
            return
        if self.reason is not None:
            raise CalibrationInvalid(f"tier {self.name!r}: it has thresholds, and a reason why it has none")
        sides = (self.thresholds.fake_above, self.guarantee.fpr), (self.thresholds.real_below, self.guarantee.fnr)
        if any((threshold is None) != (rate is None) for threshold, rate in sides):
            raise CalibrationInvalid(f"tier {self.name!r}: fake_above comes with fpr, and real_below with fnr")


@dataclass(frozen=True)
class Conditions:
    """How images are judged: scores under other conditions are other scores.

    `crops`: K of one draw; None for tiles, for `crops auto` and for the resize-only architecture. `sampling`:
    `stratified`, `tiles`, or None for the resize-only architecture. `preprocessing`: version of what decoding, resizing
    and sampling make of an image.
    """

    precision: str
    crops: int | None
    sampling: str | None
    draws: int
    preprocessing: int

    def __post_init__(self) -> None:
        if self.sampling not in ("stratified", "tiles", None):
            raise CalibrationInvalid(f"sampling: got {self.sampling!r:.60}; expected stratified, tiles or null")
        if self.draws < 1 or (self.crops is not None and self.crops < 1):
            raise CalibrationInvalid(f"conditions: got {self.crops} crops and {self.draws} draws; expected 1 or more")

    def in_words(self) -> str:
        """Such as `fp32, 10 crops, stratified, 1 draw, preprocessing 1`."""
        crops = {"stratified": "crops auto", "tiles": "every window"}.get(self.sampling or "", "the resized image only")
        how = crops if self.crops is None else f"{self.crops} crops, {self.sampling}"
        draws = f"{self.draws} draw{'s' if self.draws > 1 else ''}"
        return f"{self.precision}, {how}, {draws}, preprocessing {self.preprocessing}"


@dataclass(frozen=True)
class Calibration:
    """The decision of a bundle: what scores of its engines mean.

    `id` names it: it follows from everything else in it. `content_sha256`: of the bundle's content that was measured
    (see `glass_rt.bundle.decision`), `files` its engines and its head, name to SHA-256. `tiers`: in order, the last one
    takes every image. `probability`: None where none could be fitted.
    """

    id: str
    content_sha256: str
    files: Mapping[str, str]
    conditions: Conditions
    tiers: tuple[Tier, ...]
    probability: ProbabilityCurve | None = None

    def __post_init__(self) -> None:
        if not all(_HEXADECIMAL.fullmatch(digest) for digest in (self.content_sha256, *self.files.values())):
            raise CalibrationInvalid("content_sha256, files: expected SHA-256 in hexadecimal")
        if self.conditions.sampling == "stratified" and self.conditions.crops is None:
            raise CalibrationInvalid("conditions: crops auto cannot be calibrated: its scores depend on a threshold")
        check_table(self.tiers)
        expected = self._expected_id()
        if self.id == NO_ID:
            object.__setattr__(self, "id", expected)
        elif self.id != expected:
            raise CalibrationInvalid(f"id: got {self.id!r:.60}; its content has the id {expected}: it was altered")

    @classmethod
    def new(
        cls,
        content_sha256: str,
        files: Mapping[str, str],
        conditions: Conditions,
        tiers: tuple[Tier, ...],
        probability: ProbabilityCurve | None = None,
    ) -> Calibration:
        """A calibration with the id that follows from the rest. Raises CalibrationInvalid."""
        return cls(NO_ID, content_sha256, files, conditions, tiers, probability)

    def to_json(self) -> dict[str, Any]:
        """Its JSON values; `glass_rt.bundle.decision.calibration_from_json` reads them."""
        return asdict(self)

    def _expected_id(self) -> str:
        # What is None is left out: a field that a later version adds will not give earlier calibrations another id.
        values = _without_none({**asdict(self), "id": None})
        text = json.dumps(values, sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_none(item) for name, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(item) for item in value]
    return value
