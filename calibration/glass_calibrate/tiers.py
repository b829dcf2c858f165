"""The tiers of input, fixed before any score is seen: a table in order, whose first row that takes an image counts."""

from __future__ import annotations

from glass_rt.decision.tiers import NamedRule, TierRule

# Longer side in pixels: what galleries and search engines show in place of an image is 180 to 320 wide.
THUMBNAIL = 321
# By the quantisation tables, as libjpeg counts: web sites write 75 to 90, and messengers less.
LOW_QUALITY = 70

REST = NamedRule("the rest", TierRule())
DEFAULT_TIERS = (
    NamedRule("thumbnail", TierRule(longer_below=THUMBNAIL)),
    NamedRule("too small to be stratified", TierRule(stratified=False)),
    NamedRule("JPEG of low quality", TierRule(jpeg_quality_below=LOW_QUALITY)),
    NamedRule("without a container", TierRule(container=False)),
    REST,
)
ONE_TIER = (NamedRule("every image", TierRule()),)


def tier_table(*, tiers: bool, stratified: bool) -> tuple[NamedRule, ...]:
    """The table to calibrate with: `tiers` False for one tier; `stratified` says whether crops are drawn in cells."""
    if not tiers:
        return ONE_TIER
    return tuple(rule for rule in DEFAULT_TIERS if stratified or rule.rule.stratified is None)
