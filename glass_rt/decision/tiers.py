"""Tiers of input: kinds of images that a detector may be right about more or less often, told without their score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from glass_rt.errors import CalibrationInvalid

MOST_TIERS = 64  # a manifest is not trusted, and a table is walked for every image
ARRAY = "array"  # the format of an image that came as pixels


@dataclass(frozen=True)
class InputFacts:
    """What is known of one image beside its score.

    `width`, `height`: stored pixels. `format`: of the container, `array` for an image that came as pixels.
    `jpeg_quality`: 1..100, by the quantisation table; None for other formats. `stratified`: whether its crops lie in
    cells of their own; None where crops are not drawn so (tiles, the resize-only architecture).
    """

    width: int
    height: int
    format: str
    jpeg_quality: int | None = None
    stratified: bool | None = None


@dataclass(frozen=True)
class TierRule:
    """Conditions in numbers. An image is of the tier where all that are given hold; a rule of none takes every image.

    `longer_below`, `shorter_below`: the longer, or the shorter, side has fewer pixels. `jpeg_quality_below`: a JPEG
    whose quality is lower. `stratified`: as in InputFacts. `container`: False for arrays, True for files.
    """

    longer_below: int | None = None
    shorter_below: int | None = None
    jpeg_quality_below: int | None = None
    stratified: bool | None = None
    container: bool | None = None

    def __post_init__(self) -> None:
        for name in ("longer_below", "shorter_below", "jpeg_quality_below"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise CalibrationInvalid(f"{name}: got {value}; expected a number from 1 on")

    @property
    def takes_all(self) -> bool:
        """Whether it has no condition."""
        return self == TierRule()

    def in_words(self) -> str:
        """The conditions for a reader, such as `the longer side is under 321 px`; without any, `every image`."""
        words = []
        if self.longer_below is not None:
            words.append(f"the longer side is under {self.longer_below} px")
        if self.shorter_below is not None:
            words.append(f"the shorter side is under {self.shorter_below} px")
        if self.jpeg_quality_below is not None:
            words.append(f"JPEGs of a quality under {self.jpeg_quality_below}")
        if self.stratified is not None:
            words.append("crops are stratified" if self.stratified else "crops are not stratified")
        if self.container is not None:
            words.append("files" if self.container else "arrays of pixels")
        return ", ".join(words) or "every image"

    def takes(self, facts: InputFacts) -> bool:
        """Whether an image of these facts meets every condition."""
        quality = facts.jpeg_quality
        return (
            (self.longer_below is None or max(facts.width, facts.height) < self.longer_below)
            and (self.shorter_below is None or min(facts.width, facts.height) < self.shorter_below)
            and (self.jpeg_quality_below is None or (quality is not None and quality < self.jpeg_quality_below))
            and (self.stratified is None or facts.stratified is self.stratified)
            and (self.container is None or (facts.format != ARRAY) is self.container)
        )


@dataclass(frozen=True)
class NamedRule:
    """A tier before it is calibrated: its name and its rule."""

    name: str
    rule: TierRule

    def __post_init__(self) -> None:
        if not (0 < len(self.name) <= 60 and self.name.isprintable()):
            raise CalibrationInvalid(f"tier: got the name {self.name!r:.80}; expected 1 to 60 printable characters")


RuleT = TypeVar("RuleT", bound=NamedRule)


def check_table(tiers: Sequence[NamedRule]) -> None:
    """Raises CalibrationInvalid unless names differ and the last tier, and no other, takes every image."""
    if not tiers:
        raise CalibrationInvalid("tiers: there are none; expected at least one")
    if len(tiers) > MOST_TIERS:
        raise CalibrationInvalid(f"tiers: there are {len(tiers)}; at most {MOST_TIERS} are taken")
    names = [tier.name for tier in tiers]
    if twice := [name for name in names if names.count(name) > 1]:
        raise CalibrationInvalid(f"tiers: two are called {twice[0]!r}")
    if [tier.rule.takes_all for tier in tiers] != [False] * (len(tiers) - 1) + [True]:
        raise CalibrationInvalid("tiers: the last one, and no other, must take every image (a rule without conditions)")


def tier_of(facts: InputFacts, tiers: Sequence[RuleT]) -> RuleT:
    """The first tier of the table whose rule takes the image; the last one takes every image."""
    return next(tier for tier in tiers if tier.rule.takes(facts))
