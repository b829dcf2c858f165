"""Every rule for the kit's figures lets an H100's through, and none that is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from glass_bench.gpu.checks import POSITIVE, TRUE, ZERO, Check, Outcome, at_most, outcome_of
from glass_bench.gpu.expected import EXPECTED
from glass_bench.gpu.status import read_records
from glass_bench.gpu.steps import STEPS, Step

from tests.glass_bench.gpu.figures import ENGINES, right_figures, with_wrong

ALL = (*STEPS, *ENGINES)


@pytest.mark.parametrize("step", ALL, ids=lambda step: step.name)
def test_right_figures_pass_and_each_wrong_one_is_named(step: Step) -> None:
    figures = right_figures(step)
    assert outcome_of(figures, step.checks) == Outcome("passed")
    assert step.checks, "a step that nothing is asked of cannot fail"
    for check in step.checks:
        wrong = list(with_wrong(figures, check))
        assert wrong or check.optional, check.path
        for name, changed in wrong[:3]:
            found = outcome_of(json.loads(json.dumps(changed)), step.checks)
            assert found.state == "failed", name
            assert any(words.startswith(f"{name}: ") and check.rule.says in words for words in found.why), name


@pytest.mark.parametrize("step", ALL, ids=lambda step: step.name)
def test_a_part_that_is_missing_fails_the_step(step: Step) -> None:
    figures = right_figures(step)
    for check in step.checks:
        if not check.optional:
            names = {place.partition(" > ")[0] for place, _ in with_wrong(figures, check)}
            found = outcome_of({name: part for name, part in figures.items() if name not in names}, step.checks)
            assert found.state == "failed", check.path


def test_every_rule_belongs_to_a_step() -> None:
    assert set(EXPECTED) == {step.kind or step.name for step in ALL} | {"8 refusal"}


ONE = (Check(("part", "a"), ZERO),)


@pytest.mark.parametrize(
    ("figures", "outcome"),
    [
        ({"part": {"found": {"a": 0}}}, Outcome("passed")),
        ({"part": {"found": {"a": False}}}, "part > a: False; expected 0"),
        ({"part": {"found": {"a": "0"}}}, "part > a: '0'; expected 0"),
        ({"part": {"found": {"a": "nan"}}}, "part > a: 'nan'; expected 0"),
        ({"part": {"found": {"a": None}}}, "part > a: None; expected 0"),
        ({"part": {"found": {}}}, "part > a: there is no such figure; expected 0"),
        ({"part": {"found": None}}, "part > a: there is no such figure; expected 0"),
        ({"part": 3}, "part > a: there is no such figure; expected 0"),
        ({"other": {"found": {"a": 0}}}, "part > a: there is no such figure; expected 0"),
        ({"part": {"failed": "GpuError: lost"}}, "part: GpuError: lost"),
        ({"part": {"left out": "no such tool"}}, Outcome("left out", ("no such tool",))),
        (
            {"part": {"left out": "no such tool"}, "more": {"found": 1}},
            Outcome("passed", ("part was left out: no such tool",)),
        ),
        ({}, "it left no figures"),
        ([], "it left no figures"),
        (None, "it left no figures"),
        ("text", "it left no figures"),
    ],
)
def test_figures_of_any_kind_have_an_outcome(figures: Any, outcome: Outcome | str) -> None:
    expected = Outcome("failed", (outcome,)) if isinstance(outcome, str) else outcome
    assert outcome_of(figures, ONE) == expected


@pytest.mark.parametrize(
    ("rule", "right", "wrong"),
    [
        (POSITIVE, (1, 0.5), (0, -1, float("nan"), float("inf"), True, "1", None, [])),
        (TRUE, (True,), (1, "true", None)),
        (at_most(0.5), (0, 0.5), (0.6, -0.1, float("nan"), True, "0", {})),
    ],
)
def test_rules_are_strict(rule: Any, right: tuple[Any, ...], wrong: tuple[Any, ...]) -> None:
    for state, values in (("passed", right), ("failed", wrong)):
        for value in values:
            assert outcome_of({"part": {"found": value}}, [Check(("part",), rule)]).state == state, value


def test_what_the_records_call_right_is_right() -> None:
    records = read_records()
    assert records
    known = {step.name: step for step in STEPS}
    for record in records:
        for row in record.report["steps"]:
            if row["name"] in known and row["state"] == "passed":
                why = outcome_of(row["figures"], known[row["name"]].checks).why
                assert not [words for words in why if "there is no such figure" not in words], (
                    record.place,
                    row["name"],
                )
