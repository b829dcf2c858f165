"""Tiers: each condition by itself, the first match, tables that are refused."""

from typing import Any

import pytest

from glass_rt.decision.tiers import InputFacts, NamedRule, TierRule, check_table, tier_of
from glass_rt.errors import CalibrationInvalid

PHOTO = InputFacts(4000, 3000, "jpeg", 92, stratified=True)

RULES = [
    (TierRule(), PHOTO, True),
    (TierRule(longer_below=4001), PHOTO, True),
    (TierRule(longer_below=4000), PHOTO, False),
    (TierRule(longer_below=3001), InputFacts(3000, 10, "png"), True),
    (TierRule(shorter_below=3001), PHOTO, True),
    (TierRule(shorter_below=3000), PHOTO, False),
    (TierRule(shorter_below=11), InputFacts(10, 4000, "png"), True),
    (TierRule(jpeg_quality_below=93), PHOTO, True),
    (TierRule(jpeg_quality_below=92), PHOTO, False),
    (TierRule(jpeg_quality_below=100), InputFacts(10, 10, "png"), False),  # no JPEG, so no low quality
    (TierRule(stratified=False), PHOTO, False),
    (TierRule(stratified=False), InputFacts(10, 10, "png", stratified=False), True),
    (TierRule(stratified=False), InputFacts(10, 10, "png"), False),  # tiles: it is no question there
    (TierRule(container=False), PHOTO, False),
    (TierRule(container=False), InputFacts(10, 10, "array"), True),
    (TierRule(container=True), InputFacts(10, 10, "array"), False),
    (TierRule(shorter_below=3001, jpeg_quality_below=92), PHOTO, False),  # all must hold
]


@pytest.mark.parametrize(("rule", "facts", "expected"), RULES)
def test_a_rule_takes_an_image_where_every_condition_holds(rule: TierRule, facts: InputFacts, expected: bool) -> None:
    assert rule.takes(facts) is expected


def test_the_first_tier_whose_rule_takes_the_image_is_its_tier() -> None:
    table = [
        NamedRule("small", TierRule(shorter_below=300)),
        NamedRule("rough", TierRule(jpeg_quality_below=50)),
        NamedRule("rest", TierRule()),
    ]
    check_table(table)
    found = [
        tier_of(InputFacts(side, 5000, "jpeg", quality), table).name for side in (200, 400) for quality in (30, 90)
    ]
    assert found == ["small", "small", "rough", "rest"]


@pytest.mark.parametrize(
    "table",
    [
        [],
        [NamedRule("a", TierRule(shorter_below=3))],  # most images have no tier
        [NamedRule("a", TierRule()), NamedRule("b", TierRule())],  # b never comes
        [NamedRule("a", TierRule(shorter_below=3)), NamedRule("a", TierRule())],
        [
            *(NamedRule(str(number), TierRule(shorter_below=3)) for number in range(10**5)),
            NamedRule("rest", TierRule()),
        ],
    ],
)
def test_a_table_without_one_tier_for_every_image_is_refused(table: list[NamedRule]) -> None:
    with pytest.raises(CalibrationInvalid):
        check_table(table)


@pytest.mark.parametrize("bad", [{"longer_below": 0}, {"shorter_below": -1}, {"jpeg_quality_below": 0}])
def test_a_condition_that_no_image_meets_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(CalibrationInvalid, match=next(iter(bad))):
        TierRule(**bad)
