"""Conditions of `--fail-if`, and which of them a record meets."""

import pytest
from glass_bench.report.checks import conditions_met
from glass_bench.report.conditions import parse_condition
from glass_bench.report.figures import FIGURES

from glass_rt.errors import UsageError
from tests.glass_bench.records import FAST, SLOW, entry, record


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("p99_ms>5", ["glass: p99_ms is 20 (p99_ms>5)"]),
        ("p99_ms>50", []),
        ("peak_mb >= 100", ["glass: peak_mb is 100 (peak_mb >= 100)"]),
        ("resize:mean_ms>29", ["resize: mean_ms is 30.1 (resize:mean_ms>29)"]),
        ("images_per_second<1", ["glass: images_per_second was not measured (images_per_second<1)"]),
    ],
)
def test_conditions(text: str, met: list[str]) -> None:
    found = record(entry("glass", FAST), entry("resize", SLOW, "baseline"))
    assert conditions_met(found, [parse_condition(text, FIGURES)]) == met


@pytest.mark.parametrize("text", ["p99_ms", "p99>5", "p99_ms>fast", "p99_ms=5", ""])
def test_a_condition_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected"):
        parse_condition(text, FIGURES)


def test_a_condition_on_nobody_is_refused() -> None:
    with pytest.raises(UsageError, match="there are glass"):
        conditions_met(record(entry("glass", FAST)), [parse_condition("nobody:p50_ms>1", FIGURES)])
