"""The labels of engines as Markdown: coverage, errors with exact intervals, and the worst tiers and groups first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from glass_calibrate.intervals import Rate

from glass_bench.quality.decisions import DecisionResult
from glass_bench.report.text import table
from glass_rt.machine.file_names import text_from_name

_MOST_ROWS = 30
_ERRORS = {"fpr": "Real images labelled fake", "fnr": "Fakes labelled real"}


def decision_rows(decisions: Sequence[DecisionResult]) -> list[list[str]]:
    """Rows of a table with one column for each engine."""
    return [
        ["labels come from", *(_basis(found) for found in decisions)],
        ["images decided", *(rate_in_words(found.answers.decided) for found in decisions)],
        ["wrong among the decided", *(rate_in_words(found.answers.wrong) for found in decisions)],
        ["real images labelled fake", *(rate_in_words(found.answers.fpr) for found in decisions)],
        ["fakes labelled real", *(rate_in_words(found.answers.fnr) for found in decisions)],
    ]


def decision_tables(names: Sequence[str], decisions: Sequence[DecisionResult]) -> Iterator[str]:
    """Both errors by tier and group, each table with the worst row first."""
    for name, found in zip(names, decisions, strict=True):
        for one in found.tables:
            yield f"## {text_from_name(name)}: {_ERRORS[one.error].lower()}, by {text_from_name(one.by)}"
            yield ""
            rows = [[text_from_name(row.group), str(row.rate.images), rate_in_words(row.rate)] for row in one.rows]
            yield from table([one.by, "images", "rate"], rows[:_MOST_ROWS])
            if len(rows) > _MOST_ROWS:
                yield f"\nAnd {len(rows) - _MOST_ROWS} more with lower rates, in eval.json."
            yield ""
    if any(found.tables for found in decisions):
        yield (
            "Intervals are exact. Those of one table hold together with 95 % confidence (Bonferroni's correction), if "
            "the images of a group are independent."
        )


def rate_in_words(rate: Rate) -> str:
    """Such as `0.50% (0.06% to 1.79%), 2 of 400`."""
    if rate.value is None:
        return "-"
    return f"{rate.value:.2%} ({rate.low:.2%} to {rate.high:.2%}), {rate.count} of {rate.images}"


def _basis(found: DecisionResult) -> str:
    return found.basis if found.id is None else f"{found.basis} {found.id}"
